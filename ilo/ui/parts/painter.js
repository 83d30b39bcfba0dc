// The picture with its crop and its mask. `props.picture` is {src, width, height, grid, name, paint}; `props.value` is
// {picture, crop: {x, y, zoom}, mask}: the picture's name, the crop's centre as fractions, and grid × grid bits, 1 = to
// be filled in, as base64.
// `paint` lists the tasks with a mask ("" stands for the first task, before any choice); for others there is only the crop.
const $ = (selector) => element.querySelector(selector);
const view = $('.painter-view'), photo = $('.painter-photo'), canvas = $('.painter-mask'), cursor = $('.painter-cursor');
const size = $('.painter-size input'), sliders = [...element.querySelectorAll('[data-crop]')];
const MAX_ZOOM = 8, UNDO_DEPTH = 30;
let grid = 64, mask = new Uint8Array(0), crop = {x: 0.5, y: 0.5, zoom: 1}, mode = 'paint', history = [], drag = null;

const unpack = (text) => {
  const bytes = Uint8Array.from(atob(text || ''), (c) => c.charCodeAt(0));
  return Uint8Array.from({length: grid * grid}, (_, i) => ((bytes[i >> 3] || 0) >> (7 - (i & 7))) & 1);
};
const pack = () => {
  const bytes = new Uint8Array(Math.ceil(mask.length / 8));
  mask.forEach((bit, i) => { bytes[i >> 3] |= bit << (7 - (i & 7)); });
  return btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(''));
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function box() {
  const {width, height} = props.picture;
  const side = Math.min(width, height) / crop.zoom;
  return {
    side, left: clamp(crop.x * width - side / 2, 0, width - side), top: clamp(crop.y * height - side / 2, 0, height - side),
  };
}

function drawPhoto() {
  const {width, height, src} = props.picture, {left, top, side} = box();
  if (photo.getAttribute('src') !== src) photo.src = src;
  const percent = (value) => `${(100 * value) / side}%`;
  Object.assign(photo.style, {width: percent(width), height: percent(height), left: percent(-left), top: percent(-top)});
  sliders.forEach((slider) => { slider.value = crop[slider.dataset.crop]; });
}

function drawMask() {
  if (canvas.width !== grid) canvas.width = canvas.height = grid;
  const image = new ImageData(grid, grid);
  const [r, g, b] = getComputedStyle(element).getPropertyValue('--mask-colour').split(',').map(Number);
  mask.forEach((bit, i) => { if (bit) image.data.set([r, g, b, 235], 4 * i); });
  canvas.getContext('2d').putImageData(image, 0, 0);
}

function load() {
  grid = props.picture.grid;
  crop = {...props.value.crop};
  mask = unpack(props.value.mask);
  drawPhoto();
  drawMask();
}

function commit() {
  props.value = {picture: props.picture.name, crop: {...crop}, mask: pack()};
}

function remember() {
  history = [...history.slice(1 - UNDO_DEPTH), mask.slice()];
}

function setMode(name) {
  mode = name;
  view.dataset.mode = name;
  element.querySelectorAll('[data-mode]').forEach((b) => b.tagName === 'BUTTON' && b.setAttribute('aria-pressed', b.dataset.mode === name));
  $('.painter-crop').hidden = name !== 'move';
  cursor.hidden = true;
}

function position(event) {
  const frame = view.getBoundingClientRect();
  return {x: (event.clientX - frame.left) / frame.width, y: (event.clientY - frame.top) / frame.height, width: frame.width};
}

function stamp(from, to) {
  const radius = size.value / 2 * grid / 64, bit = mode === 'paint' ? 1 : 0;
  const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) * grid));
  for (let s = 0; s <= steps; s++) {
    const cx = (from.x + (to.x - from.x) * s / steps) * grid, cy = (from.y + (to.y - from.y) * s / steps) * grid;
    for (let y = Math.max(0, Math.floor(cy - radius)); y <= Math.min(grid - 1, cy + radius); y++)
      for (let x = Math.max(0, Math.floor(cx - radius)); x <= Math.min(grid - 1, cx + radius); x++)
        if ((x + 0.5 - cx) ** 2 + (y + 0.5 - cy) ** 2 <= radius * radius) mask[y * grid + x] = bit;
  }
  drawMask();
}

function moveCrop(changes) {
  crop = {...crop, ...changes};
  const {width, height} = props.picture, {left, top, side} = box();
  crop.x = (left + side / 2) / width;
  crop.y = (top + side / 2) / height;
  drawPhoto();
}

const task = () => element.closest('[data-task]')?.dataset.task ?? '';
const active = () => (props.picture.paint.includes(task()) ? mode : 'move');

view.addEventListener('pointerdown', (event) => {
  if (event.target.closest('.painter-crop') || event.button !== 0) return;
  event.preventDefault();
  view.setPointerCapture(event.pointerId);
  drag = position(event);
  drag.crop = {...crop};
  if (active() !== 'move') {
    remember();
    stamp(drag, drag);
  }
});
view.addEventListener('pointermove', (event) => {
  const now = position(event);
  if (active() !== 'move') {
    cursor.hidden = event.pointerType === 'touch';
    const diameter = size.value / 64 * now.width;
    Object.assign(cursor.style, {left: `${100 * now.x}%`, top: `${100 * now.y}%`, width: `${diameter}px`, height: `${diameter}px`});
  }
  if (!drag) return;
  if (active() === 'move') {
    const {width, height} = props.picture, side = box().side;
    moveCrop({x: drag.crop.x - (now.x - drag.x) * side / width, y: drag.crop.y - (now.y - drag.y) * side / height});
  } else {
    stamp(drag, now);
    drag = now;
  }
});
const release = () => { if (drag) { drag = null; commit(); } };
view.addEventListener('pointerup', release);
view.addEventListener('pointercancel', release);
view.addEventListener('pointerleave', () => { cursor.hidden = true; });
view.addEventListener('wheel', (event) => {
  if (active() !== 'move') return;
  event.preventDefault();
  moveCrop({zoom: clamp(crop.zoom * Math.exp(-event.deltaY / 500), 1, MAX_ZOOM)});
  commit();
}, {passive: false});
view.addEventListener('keydown', (event) => {
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!step || event.target !== view) return;
  event.preventDefault();
  moveCrop({x: crop.x + 0.02 * step[0] / crop.zoom, y: crop.y + 0.02 * step[1] / crop.zoom});
  commit();
});
sliders.forEach((slider) => slider.addEventListener('input', () => {
  moveCrop({[slider.dataset.crop]: Number(slider.value)});
  commit();
}));
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.tagName === 'BUTTON' && button.dataset.mode) return setMode(button.dataset.mode);
  if (button.dataset.do === 'undo') {
    if (!history.length) return;
    mask = history.pop();
  } else {
    remember();
    mask = button.dataset.preset ? unpack(button.dataset.preset) : new Uint8Array(grid * grid);
  }
  drawMask();
  commit();
});
watch(['value', 'picture'], load);
setMode(props.picture.paint.length ? 'paint' : 'move');
load();
