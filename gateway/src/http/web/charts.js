// The page with a chart: what is shown, from when to when.

import { element, fill, moment, shown, table } from './dom.js';
import { Chart, colour } from './chart.js';
import { ask, paths } from './node.js';
import { chartLink } from './tree.js';

const SPANS = [['5 min', 300], ['1 h', 3600], ['8 h', 28800], ['1 day', 86400], ['1 week', 604800]];
const SERIES_MAX = 4;
const POINTS = 600;
const LIVE_MS = 2000;
const TABLE_ROWS = 24;

/** The name of a series. */
function nameOf([path, field]) {
  return field && field !== 'value' ? `${path} ${field}` : path;
}

/** Adds portions of a series together. */
export function merge(points, portion) {
  for (const [time, min, max, sum, size] of portion) {
    const before = points.get(time);
    if (before) {
      points.set(time, [time, Math.min(before[1], min), Math.max(before[2], max), before[3] + sum, before[4] + size]);
    } else points.set(time, [time, min, max, sum, size]);
  }
}

/** A pause that is long compared with what is usual between these points. */
export function pauseOf(points, step) {
  const gaps = points.slice(1).map((point, at) => point[0] - points[at][0]).sort((a, b) => a - b);
  const usual = gaps.length > 0 ? gaps[Math.floor(gaps.length * 0.8)] : step;
  return Math.max(usual * 5, step * 2);
}

/** Shows charts in `main` until the function that it returns is called. */
export function show(main, query) {
  const wanted = query.getAll('s').map((text) => JSON.parse(text)).slice(0, SERIES_MAX);
  let lengthMs = 3600000;
  let fixed = null;
  let request = null;
  let timer = null;
  let series = [];
  const bar = element('div', { class: 'bar' });
  const box = element('div', { class: 'chart', id: 'chart' });
  const reading = element('p', { class: 'quiet', role: 'status', id: 'reading' });
  const progress = element('p', { class: 'quiet', role: 'status', id: 'progress' });
  const legend = element('ul', { class: 'legend' });
  const numbers = element('details', {}, element('summary', {}, 'The numbers as a table'));
  const chart = new Chart(box, (from, to) => {
    fixed = [from, to];
    buttons();
    load(false);
  }, (text) => { reading.textContent = text; });
  fill(main, element('h2', {}, 'Chart'), bar,
    element('div', { class: 'panel' }, box, reading, legend), progress, numbers);

  const picker = () => {
    const list = element('datalist', { id: 'all-series' });
    const choices = [...paths.known.values()].flatMap((latest) =>
      latest.numbers.map((number) => [latest.path, number.field]));
    list.append(...choices.slice(0, 2000).map((choice) => element('option', { value: nameOf(choice) })));
    const input = element('input', {
      list: 'all-series', placeholder: 'Add a path', 'aria-label': 'Add a path to the chart', id: 'add-series',
      onchange: () => {
        const found = choices.find((choice) => nameOf(choice) === input.value);
        if (found && wanted.length < SERIES_MAX) location.hash = chartLink([...wanted, found]);
      },
    });
    return wanted.length < SERIES_MAX ? [input, list] : [];
  };
  const buttons = () => {
    fill(bar, SPANS.map(([name, seconds]) => element('button', {
      type: 'button', 'aria-pressed': String(!fixed && lengthMs === seconds * 1000),
      onclick: () => { lengthMs = seconds * 1000; fixed = null; buttons(); load(false); },
    }, name)), picker());
  };
  const drawLegend = () => {
    fill(legend, wanted.map((one, place) => element('li', {},
      element('span', { class: 'swatch' }), nameOf(one),
      wanted.length > 1 ? element('button', {
        type: 'button', 'aria-label': `Remove ${nameOf(one)}`,
        onclick: () => { location.hash = chartLink(wanted.filter((other) => other !== one)); },
      }, '×') : null,
      place > 0 ? element('span', { class: 'quiet' }, 'right axis') : null)));
    legend.querySelectorAll('.swatch').forEach((swatch, place) => { swatch.style.background = colour(place); });
  };
  const drawNumbers = () => {
    const rows = series.flatMap((one) => one.points.slice(-TABLE_ROWS).reverse().map(([time, min, max, sum, size]) =>
      [one.name, moment(time), shown(min), shown(sum / size), shown(max), String(size)]));
    const heads = [{ name: 'Path' }, { name: 'From' }, { name: 'Least', number: true },
      { name: 'Average', number: true }, { name: 'Greatest', number: true }, { name: 'Numbers', number: true }];
    fill(numbers, element('summary', {}, 'The numbers as a table'),
      table(`The newest ${TABLE_ROWS} points of each series`, heads, rows));
  };
  const spanNow = () => {
    if (fixed) return fixed;
    const to = paths.now;
    return [to - lengthMs, to];
  };
  const readSeries = async (one, from, to, step, signal, onportion) => {
    const points = new Map();
    let after = null;
    do {
      const parameters = new URLSearchParams({ path: one[0], field: one[1], from, to, step });
      if (after !== null) parameters.set('after', after);
      const portion = await ask(`/api/v1/series?${parameters}`, signal);
      merge(points, portion.points);
      after = portion.next;
      if (after !== null) onportion(points, portion.reached);
    } while (after !== null);
    return points;
  };
  const load = async (isLive) => {
    clearTimeout(timer);
    request?.abort();
    const mine = new AbortController();
    request = mine;
    const [start, end] = spanNow();
    const step = Math.max(1, Math.ceil((end - start) / POINTS));
    const from = Math.floor(start / step) * step;
    const to = Math.ceil(end / step) * step;
    const ordered = (points) => [...points.values()].sort((a, b) => a[0] - b[0]);
    const asSeries = (one, place, points) => {
      const sorted = ordered(points);
      return { name: nameOf(one), axis: place === 0 ? 0 : 1, step, points: sorted, pause: pauseOf(sorted, step) };
    };
    try {
      const found = await Promise.all(wanted.map((one, place) =>
        readSeries(one, from, to, step, mine.signal, (points, reached) => {
          if (isLive) return;
          progress.textContent = `Reading the log: ${moment(reached)}`;
          series[place] = asSeries(one, place, points);
          chart.set(series.filter(Boolean), [], from, to);
        })));
      const events = await ask(`/api/v1/alerts/history?from=${from}`, mine.signal);
      series = found.map((points, place) => asSeries(wanted[place], place, points));
      chart.set(series, marks(events), from, to);
      progress.textContent = '';
      drawNumbers();
      if (!fixed) timer = setTimeout(() => load(true), LIVE_MS);
    } catch (error) {
      if (error.name === 'AbortError') return;
      progress.textContent = error.message;
      if (!fixed) timer = setTimeout(() => load(true), LIVE_MS * 2);
    }
  };
  const started = () => {
    paths.removeEventListener('list', started);
    buttons();
  };
  paths.addEventListener('list', started);
  const leave = paths.follow();
  buttons();
  drawLegend();
  if (wanted.length === 0) progress.textContent = 'Choose a path: add one here, or click a number among the live values.';
  else load(false);
  return () => {
    clearTimeout(timer);
    request?.abort();
    paths.removeEventListener('list', started);
    chart.close();
    leave();
  };
}

function marks(events) {
  return events.filter(({ alert }) => typeof alert?.time === 'number').map(({ alert }) => ({
    time: alert.time,
    isRaised: alert.state === 'raised',
    text: `${alert.alert} ${alert.state}: ${alert.message ?? alert.id}`,
  }));
}
