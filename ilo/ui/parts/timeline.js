// The tiles under the stage. A click shows a tile's picture: large while a run goes on or before it (a second click goes
// back), on the right of the divider after a run, and as a frame of a recorded run. The left of the divider is chosen in a
// menu on the stage. The server draws both again at any time, so nothing here keeps an element.
const column = element.closest('.column'), stage = () => column.querySelector('.bench-stage');
const line = () => element.querySelector('.timeline');
const tiles = () => [...element.querySelectorAll('.moment')];
const compare = () => stage()?.querySelector('.compare');
const player = () => stage()?.querySelector('.player');
const words = (tile, name) => tile.querySelector(`.moment-${name}`).textContent;
const title = (tile) => [words(tile, 'label'), words(tile, 'score')].filter(Boolean).join(' · ');
const source = (tile) => tile.querySelector('img')?.getAttribute('src');
let run = null, shown = null, sides = {left: null, right: null};

function set(node, name, value) {  // only changes, so that the observer below comes to rest
  if (value === null) { if (node.hasAttribute(name)) node.removeAttribute(name); }
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

function place(side, index) {
  const figure = compare(), tile = tiles()[index];
  if (!figure || !tile || !source(tile)) return;
  sides[side] = index;
  const picture = figure.querySelector(side === 'left' ? '.compare-before img' : ':scope > img');
  set(picture, 'src', source(tile));
  set(picture, 'alt', title(tile));
  const names = ['left', 'right'].map((each) => words(tiles()[sides[each]], 'label'));
  set(figure.querySelector('.compare-cut'), 'aria-label', `Show more of ${names[0]} or of ${names[1]}`);
}

function menus() {  // the captions of a comparison become menus of all tiles
  const figure = compare();
  if (!figure || figure.querySelector('select') || !line()) return;
  for (const side of ['left', 'right']) {
    const first = tiles().findIndex((tile) => tile.dataset[side]);
    if (first < 0) return;
    sides[side] = first;
    const menu = document.createElement('select');
    menu.setAttribute('aria-label', `Picture on the ${side} of the divider`);
    tiles().forEach((tile, i) => { if (source(tile)) menu.add(new Option(title(tile) + (tile.dataset.right ? ' (result)' : ''), i)); });
    menu.value = first;
    menu.addEventListener('change', () => { place(side, Number(menu.value)); mark(); });
    figure.querySelector(`.compare-${side}`).replaceChildren(menu);
  }
}

function pin(index) {  // over whatever the stage shows, and under nothing that it draws later
  const box = stage();
  shown = index;
  if (index === null) {
    delete box.dataset.pinned;
    return;
  }
  box.dataset.pinned = '1';
  box.style.setProperty('--pinned', `url("${source(tiles()[index])}")`);
  box.style.setProperty('--pinned-title', JSON.stringify(title(tiles()[index])));
}

function mark() {
  const compared = compare(), recorded = player();
  tiles().forEach((tile, i) => {
    const on = compared ? i === sides.right : shown === i;
    set(tile, 'aria-pressed', String(on));
    set(tile, 'data-side', !compared ? null : i === sides.left ? 'left' : i === sides.right ? 'right' : null);
    const frame = recorded ? Number(recorded.dataset.at) : null;
    if (tile.dataset.frame !== undefined) {
      const end = Number(tile.dataset.frame), before = tiles()[i - 1]?.dataset.frame;
      const lit = frame !== null && shown === null && frame <= end && (before === undefined || frame > Number(before));
      set(tile, 'data-lit', lit ? '1' : null);
    }
    const menu = compared?.querySelectorAll('select');
    if (menu?.length === 2) { menu[0].value = sides.left; menu[1].value = sides.right; }
  });
}

function follow() {  // the tile of the round that is being searched
  const live = element.querySelector('.moment[data-now] .moment-picture');
  const picture = live && stage().querySelector('.stage:not(.compare, .player) > img');
  if (!picture) return;
  let small = live.querySelector('img');
  if (!small) {
    small = document.createElement('img');
    small.alt = '';
    live.append(small);
  }
  set(small, 'src', picture.getAttribute('src'));
}

function refresh() {
  if (!stage()) return;
  const now = line()?.dataset.run ?? null;
  if (now !== run) {
    run = now;
    sides = {left: null, right: null};
    pin(null);
  }
  menus();
  if (stage().dataset.pinned && (compare() || !source(tiles()[shown] ?? element))) pin(null);
  follow();
  mark();
}

element.addEventListener('click', (event) => {
  const tile = event.target.closest('.moment');
  if (!tile) return;
  const index = Number(tile.dataset.moment);
  if (compare()) {
    stage().querySelector('[data-view="0"]')?.click();
    place('right', index);
  } else if (player()) {
    const frame = tile.dataset.frame;
    player().dispatchEvent(new CustomEvent('seek', {detail: frame === undefined ? null : Number(frame), bubbles: true}));
    pin(frame === undefined && shown !== index ? index : null);
  } else {
    pin(shown === index || tile.dataset.now ? null : index);
  }
  mark();
});
column.addEventListener('played', () => { pin(null); mark(); });
const watching = {childList: true, subtree: true, attributes: true, attributeFilter: ['src', 'class', 'data-run', 'data-at', 'aria-pressed']};
const observer = new MutationObserver(refresh);
observer.observe(element, watching);
const begin = () => {
  if (!stage()) { requestAnimationFrame(begin); return; }
  observer.observe(stage(), watching);
  refresh();
};
begin();
