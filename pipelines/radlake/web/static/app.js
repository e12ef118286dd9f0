// Draws the charts of a page from the data beside them. Texts and numbers come from the server as they are read in the
// table; here is only how a mark looks. Without this script the tables tell everything.
import { init } from './vendor/echarts/echarts-6.1.0.min.js';

const REFRESH_MS = 60_000;
const charts = new Map();

const LINE_HEIGHT = 14;
const ruler = document.createElement('canvas').getContext('2d');

const labelWidth = (width) => Math.min(220, width * 0.36);

function linesOf(text, width) {
  ruler.font = `12px ${sans()}`;
  return Math.ceil(ruler.measureText(text).width * 1.1 / width);
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Single quotes: the text of an SVG is written with double ones.
const sans = () => color('sans').replaceAll('"', "'");

function axisFormatter(data) {
  if (data.unit === 'bytes') {
    return (value) => {
      const step = value ? Math.min(5, Math.floor(Math.log10(Math.abs(value)) / 3)) : 0;
      const number = new Intl.NumberFormat(data.language, { maximumFractionDigits: 1 }).format(value / 1000 ** step);
      return `${number} ${['B', 'kB', 'MB', 'GB', 'TB', 'PB'][step]}`;
    };
  }
  const share = ['share', 'percent', 'hundred'].includes(data.unit) || data.whole;
  const format = new Intl.NumberFormat(data.language, share
    ? { style: 'percent', maximumFractionDigits: 1 }
    : { notation: 'compact', maximumSignificantDigits: 3 });
  return (value) => format.format(value);
}

function tooltip(data) {
  return (items) => {
    const index = (Array.isArray(items) ? items[0] : items).dataIndex;
    const box = document.createElement('div');
    box.className = 'tip';
    const head = document.createElement('b');
    const late = data.incomplete.includes(index);
    head.textContent = data.categories[index] + (late ? ` (${data.incomplete_label})` : '');
    box.append(head);
    for (const series of data.series) {
      const line = document.createElement('div');
      const name = document.createElement('span');
      const swatch = document.createElement('i');
      swatch.className = 'swatch';
      swatch.style.background = color(`c-${series.color}`);
      name.append(swatch, series.name);
      const value = document.createElement('span');
      value.textContent = series.texts[index];
      line.append(name, value);
      box.append(line);
    }
    return box;
  };
}

// A withheld value has no length, but is never an empty place: its sign stands where the bar would begin.
function bars(data) {
  const isStack = data.form === 'stack';
  const sums = data.categories.map((_, i) => data.series.reduce((sum, s) => sum + (s.values[i] ?? 0), 0));
  return data.series.map((series, order) => {
    const tint = color(`c-${series.color}`);
    const isLast = order === data.series.length - 1;
    const isTold = (i) => (isStack ? isLast && !sums[i] && series.values[i] === null
      : data.horizontal || series.values[i] === null);
    return {
      type: 'bar',
      name: series.name,
      stack: isStack ? 'all' : undefined,
      barMaxWidth: data.horizontal ? (data.series.length > 1 ? 13 : 17) : 48,
      barGap: '20%',
      itemStyle: { color: tint, borderColor: color('card'), borderWidth: isStack ? 0.5 : 0, borderRadius: isStack ? 0 : 2 },
      emphasis: { disabled: true },
      label: {
        position: data.horizontal ? 'right' : 'top',
        color: color('text'),
        fontFamily: sans(),
        fontSize: 13,
        formatter: ({ dataIndex }) => series.texts[dataIndex],
      },
      data: series.values.map((value, i) => ({
        value: data.whole && value !== null ? value / (sums[i] || 1) : value ?? 0,
        label: { show: isTold(i) },
        itemStyle: data.incomplete.includes(i)
          ? { opacity: 0.4, borderColor: tint, borderWidth: 1, borderType: 'dashed' } : undefined,
      })),
    };
  });
}

// The part that leads to an incomplete month is a second, dashed line.
function lines(data) {
  const first = data.incomplete.length ? data.incomplete[0] : data.categories.length;
  return data.series.flatMap((series) => {
    const tint = color(`c-${series.color}`);
    const line = (values, type) => ({
      type: 'line', data: values, symbol: 'circle', symbolSize: 6, emphasis: { disabled: true },
      lineStyle: { color: tint, width: 2, type }, itemStyle: { color: tint, opacity: type === 'dashed' ? 0.6 : 1 },
    });
    return [
      line(series.values.map((value, i) => (i < first ? value : null)), 'solid'),
      line(series.values.map((value, i) => (i >= first - 1 ? value : null)), 'dashed'),
    ];
  });
}

function intervals(data) {
  const [point, low, high] = data.series;
  const tint = color(`c-${point.color}`);
  const at = (api, value, i) => (data.horizontal ? api.coord([value, i]) : api.coord([i, value]));
  return [{
    type: 'custom',
    encode: data.horizontal ? { x: [1, 2, 3], y: 0 } : { x: 0, y: [1, 2, 3] },
    data: point.values.map((value, i) => [i, value, low.values[i], high.values[i]]),
    renderItem: (_, api) => {
      const i = api.value(0);
      if (point.values[i] === null) {
        const [x, y] = at(api, 0, i);
        return { type: 'text', style: { x: x + 4, y, text: point.texts[i], fill: color('text'), verticalAlign: 'middle' } };
      }
      const [cx, cy] = at(api, point.values[i], i);
      const ends = [low, high].map((limit) => at(api, limit.values[i] ?? point.values[i], i));
      const cap = data.horizontal ? [0, 6] : [6, 0];
      const late = data.incomplete.includes(i);
      const stroke = { stroke: tint, lineWidth: 2, lineDash: late ? [4, 3] : undefined, opacity: late ? 0.6 : 1 };
      const rule = ([x1, y1], [x2, y2]) => ({ type: 'line', shape: { x1, y1, x2, y2 }, style: stroke });
      return {
        type: 'group',
        children: [
          rule(...ends),
          ...ends.map(([x, y]) => rule([x - cap[0], y - cap[1]], [x + cap[0], y + cap[1]])),
          { type: 'circle', shape: { cx, cy, r: 4 }, style: { fill: tint, opacity: stroke.opacity } },
        ],
      };
    },
  }];
}

function option(data, width) {
  const text = { color: color('muted'), fontFamily: sans(), fontSize: 12 };
  const line = { lineStyle: { color: color('line') } };
  const names = {
    type: 'category',
    data: data.categories,
    inverse: data.horizontal,
    axisLabel: { ...text, interval: 0, hideOverlap: !data.horizontal, ...(data.horizontal ? { width: labelWidth(width), overflow: 'break', lineHeight: LINE_HEIGHT, color: color('text') } : {}) },
    axisLine: line,
    axisTick: { show: false },
    z: 3, // above the borders of empty bars
  };
  const values = {
    type: 'value',
    min: data.form === 'intervals' || data.form === 'lines' ? 0 : undefined,
    max: data.whole ? 1 : undefined,
    interval: data.whole ? 0.25 : undefined,
    splitNumber: data.horizontal ? (width < 420 ? 2 : 4) : 5,
    axisLabel: { ...text, formatter: axisFormatter(data), hideOverlap: true },
    splitLine: line,
  };
  return {
    animation: false,
    textStyle: { fontFamily: sans() },
    grid: {
      left: 2, top: 12, bottom: 4, right: data.horizontal && data.form === 'bars' ? 84 : 16,
      outerBoundsMode: 'same', outerBoundsContain: 'axisLabel',
    },
    xAxis: data.horizontal ? values : names,
    yAxis: data.horizontal ? names : values,
    tooltip: {
      trigger: data.form === 'intervals' ? 'item' : 'axis',
      axisPointer: { type: 'shadow', shadowStyle: { color: color('line'), opacity: 0.35 } },
      backgroundColor: color('card'),
      borderColor: color('line'),
      confine: true,
      formatter: tooltip(data),
    },
    series: { stack: bars, bars, lines, intervals }[data.form](data),
  };
}

function draw(element) {
  const data = JSON.parse(document.getElementById(element.dataset.chart).textContent);
  if (data.horizontal) {
    const bars = data.form === 'bars' ? 16 + 15 * data.series.length : 32;
    const names = 8 + LINE_HEIGHT * Math.max(...data.categories.map((name) => linesOf(name, labelWidth(element.clientWidth))));
    element.style.height = `${data.categories.length * Math.max(bars, names) + 40}px`;
  }
  let chart = charts.get(element);
  if (!chart) {
    chart = init(element, null, { renderer: 'canvas' });
    charts.set(element, chart);
  }
  chart.resize();
  chart.setOption(option(data, element.clientWidth), true);
}

const drawAll = () => document.querySelectorAll('[data-chart]').forEach(draw);

let resizing;
addEventListener('resize', () => {
  clearTimeout(resizing);
  resizing = setTimeout(drawAll, 100);
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
drawAll();

// Paper is white: charts are drawn anew in the colours of the light scheme, and in those of the screen after it.
addEventListener('beforeprint', () => { document.documentElement.classList.add('paper'); drawAll(); });
addEventListener('afterprint', () => { document.documentElement.classList.remove('paper'); drawAll(); });

// A picture tells what it shows, of when and by which definition, wherever it is pasted.
const SVG = 'http://www.w3.org/2000/svg';

function part(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function tilesOf(map, width) {
  const copy = map.cloneNode(true);
  const style = (to, from, names) => names.forEach((name) => to.setAttribute(name, getComputedStyle(from).getPropertyValue(name)));
  const originals = map.querySelectorAll('rect, text');
  copy.querySelectorAll('rect, text').forEach((one, i) => style(one, originals[i], ['fill', 'stroke', 'stroke-dasharray', 'font-family', 'font-size', 'font-weight']));
  const box = map.viewBox.baseVal;
  const height = width * box.height / box.width;
  copy.setAttribute('width', width);
  copy.setAttribute('height', height);
  return { copy, height };
}

function picture(name) {
  const card = document.getElementById(name);
  const element = card.querySelector('[data-chart]');
  const data = JSON.parse(document.getElementById(element.dataset.chart).textContent);
  const [width, edge] = [Math.max(720, element.clientWidth), 24];
  const root = document.createElementNS(SVG, 'svg');
  const font = { 'font-family': sans(), fill: color('text') };
  const ground = part(root, 'rect', { fill: color('card') });
  part(root, 'text', { x: edge, y: 38, 'font-size': 20, 'font-weight': 650, ...font }, card.querySelector('h2').textContent);
  const meta = card.querySelector('.meta').textContent.replace(/\s+/g, ' ').trim();
  part(root, 'text', { x: edge, y: 60, 'font-size': 12, ...font, fill: color('muted') }, meta);
  const caption = card.querySelector('.caption');
  let y = 72;
  if (caption) { part(root, 'text', { x: edge, y: y + 12, 'font-size': 13, ...font }, caption.textContent); y += 26; }
  if (card.querySelector('.keys')) {
    let x = edge;
    for (const series of data.series) {
      part(root, 'rect', { x, y: y + 2, width: 11, height: 11, rx: 2, fill: color(`c-${series.color}`) });
      part(root, 'text', { x: x + 16, y: y + 12, 'font-size': 12, ...font }, series.name);
      ruler.font = `12px ${sans()}`;
      x += 34 + ruler.measureText(series.name).width;
      if (x > width - 80) { x = edge; y += 18; }
    }
    y += 24;
  }
  const map = card.querySelector('.tilemap');
  if (map) {
    const { copy, height } = tilesOf(map, Math.min(640, width));
    copy.setAttribute('x', edge);
    copy.setAttribute('y', y);
    root.append(copy);
    y += height + 12;
  }
  const height = element.clientHeight;
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  chart.setOption(option(data, width));
  const drawn = new DOMParser().parseFromString(chart.renderToSVGString(), 'image/svg+xml').documentElement;
  chart.dispose();
  drawn.setAttribute('x', edge);
  drawn.setAttribute('y', y);
  root.append(drawn);
  const size = { width: width + 2 * edge, height: y + height + edge };
  for (const [key, value] of Object.entries(size)) { root.setAttribute(key, value); ground.setAttribute(key, value); }
  return { text: new XMLSerializer().serializeToString(root), ...size };
}

async function png({ text, width, height }) {
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [2 * width, 2 * height];
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => { canvas.toBlob(resolve, 'image/png'); });
}

for (const button of document.querySelectorAll('[data-picture]')) {
  button.hidden = false;
  button.addEventListener('click', async () => {
    const made = picture(button.dataset.of);
    const blob = button.dataset.picture === 'svg' ? new Blob([made.text], { type: 'image/svg+xml' }) : await png(made);
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// On a narrow screen the name of this page may be beyond the edge of the list of pages.
const here = document.querySelector('.pages [aria-current]');
if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.offsetLeft - 32;

// A page on a wall shows a new snapshot by itself.
setInterval(async () => {
  const { snapshot, health } = document.body.dataset;
  if (!health || document.hidden) return;
  const answer = await fetch(health).catch(() => null);
  if (answer?.ok && (await answer.json()).snapshot !== snapshot) location.reload();
}, REFRESH_MS);
