// The faces of an uploaded photograph. `props.photo` is null or {src, width, height, tiles: [{choice, label, src}], chosen,
// note, eyes: [[x, y], [x, y]], places: the eyes' as fractions of the crop, square: its corners or null, problem};
// eyes and corners are in the photograph's pixels. A click asks for {choice} or {choice: 'eyes', eyes}.
const $ = (selector) => element.querySelector(selector);
const root = $('.photograph'), view = $('.photo-view'), image = $('.photo-view img'), loupe = $('.photo-loupe');
const dots = [...element.querySelectorAll('.photo-eye')], fields = [...element.querySelectorAll('.photo-numbers input')];
const HINTS = ['Click the eye on the left of the picture, then the eye on the right. You can also drag the dots.', 'Now click the eye on the right.'];
const NEAR = 10, ENLARGED = 3, TALLEST = 380;  // pixels of the screen; of the loupe; of the photograph's view
let eyes = [[0, 0], [0, 0]], next = 0, drag = null, moved = false;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function corners() {  // the square that puts the eyes where the generator expects them; a, b: rotation and scale
  const [[ax, ay], [bx, by]] = eyes, [[px, py], [qx, qy]] = props.photo.places;
  const dx = qx - px, dy = qy - py, length = dx * dx + dy * dy;
  const a = ((bx - ax) * dx + (by - ay) * dy) / length, b = ((by - ay) * dx - (bx - ax) * dy) / length;
  const x = ax - a * px + b * py, y = ay - b * px - a * py;
  return [[0, 0], [1, 0], [1, 1], [0, 1]].map(([u, v]) => [a * u - b * v + x, b * u + a * v + y]);
}

function drawEyes() {
  const {width, height} = props.photo;
  const points = (moved ? corners() : props.photo.square ?? corners()).map((point) => point.join(',')).join(' ');
  element.querySelectorAll('polygon').forEach((polygon) => polygon.setAttribute('points', points));
  dots.forEach((dot, i) => Object.assign(dot.style, {left: `${(100 * eyes[i][0]) / width}%`, top: `${(100 * eyes[i][1]) / height}%`}));
  $('.photo-hint').textContent = HINTS[next];
}

function writeFields() {
  fields.forEach((field, i) => { field.value = Math.round(10 * eyes[i >> 1][i & 1]) / 10; });
}

function load() {
  const photo = props.photo;
  root.hidden = !photo;
  if (!photo) return open(false);
  $('.photo-tiles').replaceChildren(...photo.tiles.map(({choice, label, src}) => {
    const button = document.createElement('button'), picture = document.createElement('img');
    Object.assign(button, {type: 'button', title: label});
    Object.assign(picture, {src, alt: label});
    button.dataset.choice = choice;
    button.setAttribute('aria-pressed', choice === photo.chosen);
    button.append(picture);
    return button;
  }));
  $('.photo-note').textContent = photo.note;
  $('.photo-problem').hidden = !photo.problem;
  $('.photo-problem').textContent = photo.problem;
  if (image.getAttribute('src') !== photo.src) {
    image.src = photo.src;
    view.style.maxWidth = `${(TALLEST * photo.width) / photo.height}px`;
    view.style.aspectRatio = `${photo.width} / ${photo.height}`;
    $('svg').setAttribute('viewBox', `0 0 ${photo.width} ${photo.height}`);
    open(false);
  }
  next = 0;
  if (!photo.problem) {  // keep what the user typed, so that it can be corrected
    eyes = photo.eyes.map((point) => [...point]);
    moved = false;
    writeFields();
  }
  drawEyes();
}

function open(wanted) {
  $('.photo-editor').hidden = !wanted;
  $('[data-photo=eyes]').setAttribute('aria-expanded', wanted);
}

const ask = (choice) => trigger('click', {choice});
const place = () => trigger('click', {choice: 'eyes', eyes});

function position(event) {
  const frame = view.getBoundingClientRect(), {width, height} = props.photo;
  const x = clamp((event.clientX - frame.left) / frame.width, 0, 1), y = clamp((event.clientY - frame.top) / frame.height, 0, 1);
  return {x, y, point: [Math.round(10 * x * width) / 10, Math.round(10 * y * height) / 10], frame};
}

function nearest(event) {
  const distances = dots.map((dot) => {
    const box = dot.getBoundingClientRect();
    return Math.hypot(event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
  });
  const i = distances[0] <= distances[1] ? 0 : 1;
  return distances[i] <= NEAR && next === 0 ? i : null;
}

function move(event) {
  const {x, y, point, frame} = position(event);
  eyes[drag.eye] = point;
  moved = true;
  const half = loupe.clientWidth / 2;
  loupe.hidden = false;
  loupe.classList.toggle('left', x > 0.5);
  Object.assign(loupe.style, {
    backgroundImage: `url(${props.photo.src})`, backgroundSize: `${ENLARGED * frame.width}px ${ENLARGED * frame.height}px`,
    backgroundPosition: `${half - ENLARGED * x * frame.width}px ${half - ENLARGED * y * frame.height}px`,
  });
  writeFields();
  drawEyes();
}

view.addEventListener('pointerdown', (event) => {
  if (event.button !== 0 || !props.photo) return;
  event.preventDefault();
  view.setPointerCapture(event.pointerId);
  const grabbed = nearest(event);
  drag = {eye: grabbed ?? next, placed: grabbed === null};
  move(event);
});
view.addEventListener('pointermove', (event) => { if (drag) move(event); });
const release = () => {
  if (!drag) return;
  const {eye, placed} = drag;
  drag = null;
  loupe.hidden = true;
  next = placed && eye === 0 ? 1 : 0;
  drawEyes();
  if (!next) place();  // wait for the right eye after the left one
};
view.addEventListener('pointerup', release);
view.addEventListener('pointercancel', release);
fields.forEach((field, i) => field.addEventListener('change', () => {
  eyes[i >> 1][i & 1] = field.value === '' ? null : Number(field.value);
  next = 0;
  moved = true;
  if (!eyes.flat().includes(null)) drawEyes();
  place();
}));
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.choice) ask(button.dataset.choice);
  if (button.dataset.photo === 'back') ask('back');
  if (button.dataset.photo === 'eyes') {
    open($('.photo-editor').hidden);
    if (!$('.photo-editor').hidden) $('.photo-editor').scrollIntoView({block: 'nearest', behavior: 'smooth'});
  }
});
watch('photo', load);
load();
