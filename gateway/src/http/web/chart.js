// A chart of numbers over time on a canvas: two axes, zoom, marks.

import { shown } from './dom.js';

const GUTTER = 58;
const TOP = 10;
const BOTTOM = 26;
const COLOURS = ['--first', '--second', '--third', '--fourth'];
/** The least span that one can zoom to, in milliseconds. */
const SPAN_MIN_MS = 1000;

/** The colour of the series at a place. */
export function colour(place) {
  return getComputedStyle(document.documentElement).getPropertyValue(COLOURS[place % COLOURS.length]).trim();
}

/** Round steps for about `wanted` lines between two numbers. */
export function steps(least, greatest, wanted) {
  const rough = (greatest - least) / Math.max(wanted, 1);
  if (!(rough > 0) || !Number.isFinite(rough)) return [least];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let at = Math.ceil(least / step); at * step <= greatest + step * 1e-9; at += 1) found.push(at * step);
  return found;
}

const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
  172800, 604800, 1209600, 2592000];

function timeSteps(from, to, wanted) {
  const rough = (to - from) / 1000 / wanted;
  const step = (TIME_STEPS_S.find((size) => size >= rough) ?? TIME_STEPS_S.at(-1)) * 1000;
  const zone = new Date(from).getTimezoneOffset() * 60000;
  const found = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at <= to; at += step) found.push(at);
  return { found, step };
}

function timeLabel(at, step) {
  const date = new Date(at);
  if (step >= 86400000) return date.toLocaleDateString(undefined, { month: 'short', day: 'numeric' });
  const options = { hour: '2-digit', minute: '2-digit' };
  if (step < 60000) options.second = '2-digit';
  return date.toLocaleTimeString(undefined, options);
}

/** Draws series `{name, axis: 0 | 1, points: [[t, min, max, sum, count]…]}`. */
export class Chart {
  #canvas;
  #box;
  #series = [];
  #marks = [];
  #from = 0;
  #to = 1;
  #pointer = null;
  #drag = null;
  #onzoom;
  #onread;
  #observer;

  /** `onzoom(from, to)` is told what the person wants to see, `onread(text)`
   * what is under the pointer. */
  constructor(box, onzoom, onread) {
    this.#box = box;
    this.#onzoom = onzoom;
    this.#onread = onread;
    this.#canvas = document.createElement('canvas');
    this.#canvas.tabIndex = 0;
    this.#canvas.setAttribute('role', 'img');
    box.append(this.#canvas);
    this.#observer = new ResizeObserver(() => this.draw());
    this.#observer.observe(box);
    this.#listen();
  }

  close() {
    this.#observer.disconnect();
  }

  /** What to draw. */
  set(series, marks, from, to) {
    this.#series = series;
    this.#marks = marks;
    this.#from = from;
    this.#to = to;
    const names = series.map((one) => one.name).join(', ');
    this.#canvas.setAttribute('aria-label',
      `Chart of ${names}. Arrow keys move, plus and minus zoom. The table below has the numbers.`);
    this.draw();
  }

  #listen() {
    const canvas = this.#canvas;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    canvas.addEventListener('pointermove', (event) => {
      this.#pointer = place(event);
      this.draw();
    });
    canvas.addEventListener('pointerleave', () => {
      if (this.#drag !== null) return;
      this.#pointer = null;
      this.#onread('');
      this.draw();
    });
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.#drag = place(event).x;
    });
    canvas.addEventListener('pointerup', (event) => {
      const start = this.#drag;
      this.#drag = null;
      const end = place(event).x;
      if (start !== null && Math.abs(end - start) > 6) {
        this.#zoom(this.#timeAt(Math.min(start, end)), this.#timeAt(Math.max(start, end)));
      }
    });
    canvas.addEventListener('pointercancel', () => { this.#drag = null; });
    canvas.addEventListener('wheel', (event) => {
      if (!event.ctrlKey && Math.abs(event.deltaY) < Math.abs(event.deltaX)) return;
      event.preventDefault();
      const at = this.#timeAt(place(event).x);
      const factor = event.deltaY > 0 ? 1.25 : 0.8;
      this.#zoom(at - (at - this.#from) * factor, at + (this.#to - at) * factor);
    }, { passive: false });
    canvas.addEventListener('dblclick', () => this.#widen(2));
    canvas.addEventListener('keydown', (event) => {
      const size = this.#to - this.#from;
      const moves = { ArrowLeft: -0.25, ArrowRight: 0.25 };
      if (event.key in moves) this.#zoom(this.#from + size * moves[event.key], this.#to + size * moves[event.key]);
      else if (event.key === '+' || event.key === '=') this.#widen(0.5);
      else if (event.key === '-') this.#widen(2);
      else return;
      event.preventDefault();
    });
  }

  #widen(factor) {
    const middle = (this.#from + this.#to) / 2;
    const half = ((this.#to - this.#from) / 2) * factor;
    this.#zoom(middle - half, middle + half);
  }

  #zoom(from, to) {
    const missing = Math.max(0, SPAN_MIN_MS - (to - from)) / 2;
    // At once, for the next key or turn of the wheel; the numbers follow.
    this.#from = Math.max(0, Math.round(from - missing));
    this.#to = Math.round(to + missing);
    this.draw();
    this.#onzoom(this.#from, this.#to);
  }

  get #width() { return this.#box.clientWidth; }
  get #height() { return this.#box.clientHeight; }
  get #right() { return this.#series.some((one) => one.axis === 1) ? GUTTER : 12; }

  #timeAt(x) {
    const part = (x - GUTTER) / Math.max(1, this.#width - GUTTER - this.#right);
    return this.#from + part * (this.#to - this.#from);
  }

  #xOf(time) {
    return GUTTER + ((time - this.#from) / (this.#to - this.#from)) * (this.#width - GUTTER - this.#right);
  }

  #range(axis) {
    let least = Infinity;
    let greatest = -Infinity;
    for (const one of this.#series) {
      if (one.axis !== axis) continue;
      for (const [time, min, max] of one.points) {
        if (time < this.#from - one.step || time > this.#to) continue;
        least = Math.min(least, min);
        greatest = Math.max(greatest, max);
      }
    }
    if (least > greatest) return null;
    const pad = greatest > least ? (greatest - least) * 0.06 : Math.max(Math.abs(least) * 0.05, 0.5);
    return [least - pad, greatest + pad];
  }

  draw() {
    const [width, height] = [this.#width, this.#height];
    if (width < 20 || height < 20) return;
    const scale = window.devicePixelRatio || 1;
    const canvas = this.#canvas;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext('2d');
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    pen.font = '12px system-ui, sans-serif';
    pen.lineWidth = 1;
    const bottom = height - BOTTOM;
    const right = width - this.#right;
    this.#drawTimes(pen, ink, bottom);
    const ranges = [this.#range(0), this.#range(1)];
    ranges.forEach((range, axis) => range && this.#drawAxis(pen, ink, axis, range, bottom, right));
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER, TOP, right - GUTTER, bottom - TOP);
    pen.clip();
    const yOf = (range, value) => bottom - ((value - range[0]) / (range[1] - range[0])) * (bottom - TOP);
    this.#series.forEach((one, place) => {
      const range = ranges[one.axis];
      if (range) this.#drawSeries(pen, one, colour(place), (value) => yOf(range, value));
    });
    this.#drawMarks(pen, ink, bottom);
    this.#drawPointer(pen, ink, bottom);
    pen.restore();
    if (!ranges[0] && !ranges[1]) {
      pen.fillStyle = ink('--quiet');
      pen.textAlign = 'center';
      pen.fillText('No numbers in this span', (GUTTER + right) / 2, (TOP + bottom) / 2);
    }
  }

  #drawTimes(pen, ink, bottom) {
    const { found, step } = timeSteps(this.#from, this.#to, Math.max(2, this.#width / 110));
    pen.textAlign = 'center';
    pen.textBaseline = 'top';
    for (const at of found) {
      const x = Math.round(this.#xOf(at)) + 0.5;
      pen.strokeStyle = ink('--line');
      pen.beginPath();
      pen.moveTo(x, TOP);
      pen.lineTo(x, bottom);
      pen.stroke();
      pen.fillStyle = ink('--quiet');
      pen.fillText(timeLabel(at, step), x, bottom + 6);
    }
  }

  #drawAxis(pen, ink, axis, range, bottom, right) {
    pen.textAlign = axis === 0 ? 'right' : 'left';
    pen.textBaseline = 'middle';
    for (const value of steps(range[0], range[1], Math.max(2, (bottom - TOP) / 45))) {
      const y = Math.round(bottom - ((value - range[0]) / (range[1] - range[0])) * (bottom - TOP)) + 0.5;
      if (axis === 0) {
        pen.strokeStyle = ink('--line');
        pen.beginPath();
        pen.moveTo(GUTTER, y);
        pen.lineTo(right, y);
        pen.stroke();
      }
      pen.fillStyle = ink('--quiet');
      pen.fillText(shown(value), axis === 0 ? GUTTER - 6 : right + 6, y);
    }
  }

  #drawSeries(pen, one, tint, yOf) {
    pen.fillStyle = tint;
    pen.strokeStyle = tint;
    pen.globalAlpha = 0.2;
    // A band from the least to the greatest where a step has several numbers.
    pen.beginPath();
    for (const [time, min, max] of one.points) {
      if (max > min) {
        const left = this.#xOf(time);
        pen.rect(left, yOf(max), Math.max(1, this.#xOf(time + one.step) - left), yOf(min) - yOf(max));
      }
    }
    pen.fill();
    pen.globalAlpha = 1;
    pen.lineWidth = 1.6;
    pen.lineJoin = 'round';
    pen.beginPath();
    let before = null;
    for (const [time, , , sum, size] of one.points) {
      const x = this.#xOf(time + one.step / 2);
      const y = yOf(sum / size);
      // A pause much longer than what is usual here is no line.
      if (before === null || time - before > one.pause) {
        pen.moveTo(x - 0.8, y);
        pen.lineTo(x + 0.8, y);
        pen.moveTo(x, y);
      } else pen.lineTo(x, y);
      before = time;
    }
    pen.stroke();
  }

  #drawMarks(pen, ink, bottom) {
    for (const mark of this.#marks) {
      if (mark.time < this.#from || mark.time > this.#to) continue;
      const x = this.#xOf(mark.time);
      pen.strokeStyle = pen.fillStyle = ink(mark.isRaised ? '--bad' : '--good');
      pen.lineWidth = 1.5;
      pen.setLineDash(mark.isRaised ? [] : [4, 3]);
      pen.beginPath();
      pen.moveTo(x, TOP);
      pen.lineTo(x, bottom);
      pen.stroke();
      pen.setLineDash([]);
      pen.beginPath();
      pen.moveTo(x - 5, TOP);
      pen.lineTo(x + 5, TOP);
      pen.lineTo(x, TOP + 8);
      pen.fill();
    }
  }

  #drawPointer(pen, ink, bottom) {
    if (!this.#pointer) return;
    const { x } = this.#pointer;
    if (this.#drag !== null) {
      pen.fillStyle = ink('--accent');
      pen.globalAlpha = 0.15;
      pen.fillRect(Math.min(this.#drag, x), TOP, Math.abs(x - this.#drag), bottom - TOP);
      pen.globalAlpha = 1;
    }
    const time = this.#timeAt(x);
    pen.strokeStyle = ink('--quiet');
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(x, TOP);
    pen.lineTo(x, bottom);
    pen.stroke();
    const read = this.#series.map((one) => {
      const point = nearest(one.points, time - one.step / 2);
      return point ? `${one.name}: ${shown(point[3] / point[4])}` : null;
    });
    const near = this.#marks.find((mark) => Math.abs(this.#xOf(mark.time) - x) < 8);
    const texts = [new Date(time).toLocaleString(), ...read, near?.text];
    this.#onread(texts.filter(Boolean).join('  ·  '));
  }
}

function nearest(points, time) {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < time) low = middle + 1;
    else high = middle;
  }
  const [after, before] = [points[low], points[low - 1]];
  if (!after || !before) return after ?? before;
  return after[0] - time < time - before[0] ? after : before;
}
