// Plays a recorded run: the figure carries its frames as JSON. A run plays once by itself; where the visitor asks for
// less motion, it shows its end instead.
const recorded = () => element.querySelector('.player');
let frames = [], timer = null, began = null;

function show(figure, at) {
  const frame = frames[at], slider = figure.querySelector('.player-at');
  figure.dataset.at = at;
  figure.querySelector('img').src = frame.src;
  figure.querySelector('.player-words').textContent = frame.words;
  slider.value = at;
  slider.setAttribute('aria-valuetext', frame.words);
}

function playing(figure, on) {
  clearInterval(timer);
  timer = null;
  figure.toggleAttribute('data-playing', on);
  figure.querySelector('.player-play').setAttribute('aria-label', on ? 'Pause' : 'Play');
}

function play(figure) {
  const last = frames.length - 1, from = Number(figure.dataset.at) >= last ? 0 : Number(figure.dataset.at);
  const length = 1000 * Number(figure.dataset.seconds), start = performance.now() - (length * from) / last;
  show(figure, from);
  playing(figure, true);
  timer = setInterval(() => {
    if (recorded() !== figure) { clearInterval(timer); return; }  // something else is on the stage
    const at = Math.min(last, Math.floor(((performance.now() - start) / length) * last));
    if (at !== Number(figure.dataset.at)) show(figure, at);
    if (at === last) playing(figure, false);
  }, 40);
}

function seek(figure, at) {
  playing(figure, false);
  if (at !== null) show(figure, at);
}

function begin() {
  const figure = recorded();
  if (!figure) { began = null; clearInterval(timer); return; }
  const data = figure.dataset.frames;
  if (began === data) return;
  began = data;
  frames = JSON.parse(data);
  if (matchMedia('(prefers-reduced-motion: reduce)').matches) show(figure, frames.length - 1);
  else play(figure);
}

element.addEventListener('seek', (event) => seek(recorded(), event.detail));
element.addEventListener('input', (event) => {
  if (!event.target.matches('.player-at')) return;
  seek(recorded(), Number(event.target.value));
  element.dispatchEvent(new CustomEvent('played', {bubbles: true}));
});
element.addEventListener('click', (event) => {
  if (!event.target.closest('.player-play')) return;
  const figure = recorded();
  element.dispatchEvent(new CustomEvent('played', {bubbles: true}));
  if (timer) playing(figure, false);
  else play(figure);
});
new MutationObserver(begin).observe(element, {childList: true, subtree: true});
begin();
