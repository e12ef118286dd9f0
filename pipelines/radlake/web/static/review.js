// The reviewer's desk: rectangles on a picture, by mouse or by keyboard, and a decision. Texts come with the page.
const { root, query, lost } = document.body.dataset;
const status = document.getElementById('status');
const say = (text) => { status.textContent = text; };
const SVG = 'http://www.w3.org/2000/svg';

async function post(path, body) {
  const answer = await fetch(path + query, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
  }).catch(() => null);
  const told = await answer?.json().catch(() => null);
  if (answer?.ok) return told;
  say(told?.message ?? lost);
  return null;
}

async function undo(id) {
  if (await post(`${root}/undo`, { ids: [id] })) location.reload();
}
for (const button of document.querySelectorAll('.undo')) button.addEventListener('click', () => undo(button.dataset.id));

const store = document.getElementById('store');
store?.addEventListener('click', async () => {
  store.disabled = true;
  say(store.dataset.busy);
  const told = await post(`${root}/store`, {});
  store.disabled = false;
  if (!told) return;
  const done = store.dataset.done.replace('[stored]', told.stored).replace('[held]', told.held);
  sessionStorage.setItem('told', done); // shown once, on the page with the new lists
  location.reload();
});
const told = sessionStorage.getItem('told');
if (told) {
  sessionStorage.removeItem('told');
  say(told);
}

// Keys of every page: links and buttons that name one. No key is taken while a field is written in.
const isField = (element) => element.matches?.('input:not([type=radio], [type=checkbox], [type=range]), textarea, select');
const actions = new Map();
for (const link of document.querySelectorAll('a[data-key]')) actions.set(link.dataset.key, () => link.click());
if (store) actions.set('s', () => store.click());
const first = document.querySelector('a.item');
if (first) actions.set('j', () => first.click());
const undoHere = document.querySelector('form .undo');
if (undoHere) actions.set('u', () => undoHere.click());

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (isField(event.target)) {
    if (event.key === 'Escape') (document.getElementById('stage') ?? document.body).focus();
    return;
  }
  const action = actions.get(event.key);
  if (!action) return;
  event.preventDefault();
  action();
});

const desk = document.getElementById('desk');
if (desk) open(desk.dataset);

function open(data) {
  const form = document.getElementById('decision');
  const stage = document.getElementById('stage');
  const regions = stage ? regionsOf(data, stage) : { list: [], isComplete: () => true };
  for (const radio of form.querySelectorAll('[name=decision]')) {
    radio.addEventListener('change', () => choose(radio));
    actions.set(radio.dataset.key, () => {
      radio.checked = true;
      choose(radio);
      form.why.focus();
      form.why.select();
    });
  }
  let standard = '';
  function choose(radio) {
    if (form.why.value === standard) form.why.value = radio.dataset.why;
    standard = radio.dataset.why;
  }
  const series = document.getElementById('series');
  const alike = document.getElementById('alike');
  series?.addEventListener('change', () => {
    alike.hidden = !series.checked;
    for (const image of alike.querySelectorAll('image')) image.setAttribute('href', image.dataset.href);
  });
  if (series) actions.set('e', () => series.click());

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const decision = form.querySelector('[name=decision]:checked').value;
    const isMask = decision === 'mask';
    if (isMask && !(regions.list.length && regions.isComplete())) {
      say(data.needRegion);
      return;
    }
    if (!form.why.value.trim()) {
      say(data.needWhy);
      return;
    }
    const also = series?.checked ? [...alike.querySelectorAll('[name=also]:checked')].map((box) => box.value) : [];
    const sent = { decision, regions: isMask ? regions.list.map(textOf) : [], why: form.why.value, also };
    if (!await post(data.url, sent)) return;
    const next = document.getElementById('after');
    const isGone = next && also.some((id) => next.href.includes(id));
    location.href = next && !isGone ? next.href : `${root}/${query}`;
  });
}

function textOf(region) {
  const sides = `${region.left},${region.top},${region.right},${region.bottom}`;
  return region.first > 1 || region.last ? `${sides}@${region.first}-${region.last || ''}` : sides;
}

function regionFrom(text) {
  const [sides, frames = ''] = text.split('@');
  const [left, top, right, bottom] = sides.split(',').map(Number);
  const [first, last] = frames.split('-');
  return { left, top, right, bottom, first: Number(first) || 1, last: Number(last) || 0 };
}

function regionsOf(data, stage) {
  const [columns, rows, frames] = [data.columns, data.rows, data.frames].map(Number);
  const list = (data.regions ? data.regions.split(' ') : []).map(regionFrom);
  const [drawn, proposed, picture] = ['drawn', 'proposed', 'picture'].map((id) => document.getElementById(id));
  const table = document.getElementById('regions');
  const row = document.getElementById('row');
  const slider = document.getElementById('frame');
  let frame = 1;
  let chosen = -1;
  let found = [];

  const clamp = (value, low, high) => Math.min(Math.max(Math.round(value), low), high);
  const isHere = (region) => region.first <= frame && (!region.last || frame <= region.last);
  const isWhole = (region) => region.left < region.right && region.top < region.bottom && region.right <= columns
    && region.bottom <= rows && region.first >= 1 && Math.max(region.first, region.last) <= frames
    && (!region.last || region.first <= region.last);

  function rectangle(region, parent) {
    const rect = document.createElementNS(SVG, 'rect');
    parent.append(rect);
    place(rect, region);
    return rect;
  }

  function place(rect, region) {
    rect.setAttribute('x', region.left);
    rect.setAttribute('y', region.top);
    rect.setAttribute('width', Math.max(0, region.right - region.left));
    rect.setAttribute('height', Math.max(0, region.bottom - region.top));
  }

  function show() {
    drawn.replaceChildren();
    list.forEach((region, index) => {
      const rect = rectangle(region, drawn);
      rect.dataset.index = index;
      rect.classList.toggle('chosen', index === chosen);
      rect.classList.toggle('elsewhere', !isHere(region));
    });
    proposed.replaceChildren();
    for (const region of found) rectangle(region, proposed);
    for (const group of document.querySelectorAll('.same')) {
      group.replaceChildren();
      for (const region of list) rectangle(region, group);
    }
    while (table.children.length > list.length) table.lastElementChild.remove();
    while (table.children.length < list.length) table.append(newRow());
    list.forEach((region, index) => {
      table.children[index].classList.toggle('chosen', index === chosen);
      for (const input of table.children[index].querySelectorAll('input')) {
        if (input !== document.activeElement) input.value = region[input.dataset.side] || (input.dataset.side === 'last' ? '' : 0);
      }
    });
  }

  function newRow() {
    const item = row.content.firstElementChild.cloneNode(true);
    const index = () => [...table.children].indexOf(item);
    for (const input of item.querySelectorAll('input')) {
      input.addEventListener('input', () => {
        list[index()][input.dataset.side] = Number(input.value) || 0;
        show();
      });
      input.addEventListener('focus', () => { chosen = index(); show(); });
    }
    item.querySelector('.remove').addEventListener('click', () => remove(index()));
    return item;
  }

  function add(region) {
    list.push(region);
    chosen = list.length - 1;
    show();
  }

  function remove(index) {
    list.splice(index, 1);
    chosen = Math.min(index, list.length - 1);
    show();
    if (!list.length) stage.focus();
  }

  const choices = document.querySelectorAll('[name=decision]');
  function meanMask() { // whoever draws means to mask
    const mask = [...choices].find((radio) => radio.value === 'mask');
    if (mask && !mask.checked) {
      mask.checked = true;
      mask.dispatchEvent(new Event('change'));
    }
  }

  // Mouse: draw on the picture, drag a rectangle to move it.
  function pointOf(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(stage.getScreenCTM().inverse());
    return [clamp(point.x, 0, columns), clamp(point.y, 0, rows)];
  }
  let drag = null;
  stage.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    const [x, y] = pointOf(event);
    const index = event.target.dataset?.index;
    if (index === undefined) {
      add({ left: x, top: y, right: x, bottom: y, first: 1, last: 0 });
      drag = { x, y };
    } else {
      chosen = Number(index);
      drag = { x, y, from: { ...list[chosen] } };
      show();
    }
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener('pointermove', (event) => {
    if (!drag) return;
    const [x, y] = pointOf(event);
    if (drag.from) move(list[chosen], drag.from, x - drag.x, y - drag.y);
    else {
      Object.assign(list[chosen], {
        left: Math.min(x, drag.x), top: Math.min(y, drag.y), right: Math.max(x, drag.x), bottom: Math.max(y, drag.y),
      });
    }
    show();
  });
  stage.addEventListener('pointerup', () => {
    if (drag && !drag.from && !isWhole(list[chosen])) remove(chosen); // a click, not a rectangle
    else if (drag) meanMask();
    drag = null;
  });

  function move(region, from, dx, dy) {
    const x = clamp(dx, -from.left, columns - from.right);
    const y = clamp(dy, -from.top, rows - from.bottom);
    Object.assign(region, { left: from.left + x, right: from.right + x, top: from.top + y, bottom: from.bottom + y });
  }

  // Keyboard, while the picture has the focus: arrows move, with Shift they resize.
  const step = Math.max(1, Math.round(columns / 100));
  stage.addEventListener('keydown', (event) => {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    const region = list[chosen];
    if (region && (dx || dy)) {
      if (event.shiftKey) {
        region.right = clamp(region.right + dx * step, region.left + 1, columns);
        region.bottom = clamp(region.bottom + dy * step, region.top + 1, rows);
      } else move(region, { ...region }, dx * step, dy * step);
    } else if (region && (event.key === 'Delete' || event.key === 'Backspace')) {
      remove(chosen);
    } else if (list.length && (event.key === '[' || event.key === ']')) {
      chosen = (chosen + (event.key === ']' ? 1 : -1) + list.length) % list.length;
    } else return;
    event.preventDefault();
    show();
  });
  actions.set('d', () => {
    const [width, height] = [Math.max(1, Math.round(columns / 4)), Math.max(1, Math.round(rows / 16))];
    add({ left: 0, top: 0, right: width, bottom: height, first: 1, last: 0 });
    meanMask();
    stage.focus();
  });
  actions.set('t', () => {
    const have = new Set(list.map(textOf));
    found.filter((region) => !have.has(textOf(region))).forEach(add);
    if (found.length) meanMask();
    stage.focus();
  });
  document.getElementById('draw').addEventListener('click', actions.get('d'));
  document.getElementById('take').addEventListener('click', actions.get('t'));
  for (const [key, name] of [['c', 'contrast'], ['i', 'invert']]) {
    const button = document.getElementById(name);
    button.addEventListener('click', () => {
      button.setAttribute('aria-pressed', stage.classList.toggle(name));
    });
    actions.set(key, () => button.click());
  }

  async function look() { // for text, in all frames
    say(data.looking);
    const answer = await fetch(`${data.url}/text`).catch(() => null);
    found = answer?.ok ? (await answer.json()).map(regionFrom) : [];
    say(answer?.ok ? (found.length ? data.found.replace('[n]', found.length) : data.none) : lost);
    show();
  }
  function turn(to) {
    frame = clamp(to, 1, frames);
    if (slider) {
      slider.value = frame;
      document.getElementById('frame-told').textContent = `${frame} / ${frames}`;
    }
    picture.setAttribute('href', `${data.url}/frames/${frame}.png`);
    show();
  }
  slider?.addEventListener('input', () => turn(Number(slider.value)));
  actions.set(',', () => turn(frame - 1));
  actions.set('.', () => turn(frame + 1));
  picture.addEventListener('error', () => say(data.unshown));
  show();
  look();
  stage.focus({ preventScroll: true });
  return { list, isComplete: () => list.every(isWhole) };
}
