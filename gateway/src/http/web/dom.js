// Elements, numbers and times.

/** Makes an element. Attributes are set as such, `on…` are listeners, children
 * are elements or texts: nothing is ever parsed as HTML. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Replaces what is in an element. */
export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
}

/** A number with about four digits that mean something. */
export function shown(value) {
  if (value === null || value === undefined) return '–';
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e9 || size < 1e-3)) return value.toExponential(3);
  const digits = size >= 1000 ? 1 : size >= 100 ? 2 : size >= 1 ? 3 : 4;
  // No sign on a zero.
  return (value + 0).toLocaleString(undefined, { maximumFractionDigits: digits, signDisplay: 'negative' });
}

/** A whole number with separators. */
export function count(value) {
  return value === null || value === undefined ? '–' : value.toLocaleString();
}

/** Bytes in a unit that people read. */
export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let rest = value;
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${rest.toLocaleString(undefined, { maximumFractionDigits: unit === 0 ? 0 : 1 })} ${units[unit]}`;
}

/** A span of seconds. */
export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return '–';
  if (seconds < 1) return 'now';
  const parts = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const first = parts.findIndex(([, length]) => seconds >= length);
  const [unit, length] = parts[first];
  const whole = Math.floor(seconds / length);
  const rest = parts[first + 1];
  if (!rest || whole >= 10) return `${whole} ${unit}`;
  const second = Math.floor((seconds - whole * length) / rest[1]);
  return second > 0 ? `${whole} ${unit} ${second} ${rest[0]}` : `${whole} ${unit}`;
}

/** A moment as this place writes it. */
export function moment(ms) {
  return ms === null || ms === undefined ? '–' : new Date(ms).toLocaleString();
}

/** A table with a caption for those who do not see it. */
export function table(caption, heads, rows) {
  const kind = (head) => (head.number ? { class: 'number', scope: 'col' } : { scope: 'col' });
  const cell = (content, index) =>
    element('td', heads[index].number ? { class: 'number' } : {}, content ?? '–');
  return element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    element('table', {},
      element('caption', {}, caption),
      element('thead', {}, element('tr', {}, heads.map((head) => element('th', kind(head), head.name)))),
      element('tbody', {}, rows.map((row) => element('tr', {}, row.map(cell))))));
}

/** Figures side by side: `[name, value, class]`. */
export function figures(list) {
  return element('dl', { class: 'figures' }, list.map(([name, value, kind]) =>
    element('div', {}, element('dt', {}, name), element('dd', kind ? { class: kind } : {}, value))));
}

/** A state in a word and a colour. */
export function badge(state) {
  const kinds = { connected: 'good', Stable: 'good', connecting: 'warn', degraded: 'warn', down: 'bad' };
  return element('span', { class: `badge ${kinds[state] ?? 'quiet'}` }, state);
}
