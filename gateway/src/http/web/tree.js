// The namespace as a tree, with live values.

import { element, fill, shown, span } from './dom.js';
import { paths } from './node.js';

const SPARK_WIDTH = 80;
const SPARK_HEIGHT = 20;
/** Children that are shown at once; the others after a click. */
const CHILDREN_MAX = 200;
/** Trees with fewer paths are shown open. */
const OPEN_MAX = 60;

const open = new Set();
let wasOpened = false;

/** The link of a chart. */
export function chartLink(series) {
  const wanted = new URLSearchParams();
  for (const one of series) wanted.append('s', JSON.stringify(one));
  return `#/chart?${wanted}`;
}

function spark(values) {
  const namespace = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(namespace, 'svg');
  svg.setAttribute('class', 'spark');
  svg.setAttribute('viewBox', `0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('aria-hidden', 'true');
  const line = document.createElementNS(namespace, 'polyline');
  line.setAttribute('fill', 'none');
  line.setAttribute('stroke', 'currentColor');
  line.setAttribute('stroke-width', '1.5');
  line.setAttribute('vector-effect', 'non-scaling-stroke');
  line.setAttribute('points', sparkPoints(values));
  svg.append(line);
  return svg;
}

function sparkPoints(values) {
  const least = Math.min(...values);
  const size = Math.max(...values) - least;
  const step = SPARK_WIDTH / Math.max(values.length - 1, 1);
  const height = (value) =>
    size > 0 ? SPARK_HEIGHT - 1 - ((value - least) / size) * (SPARK_HEIGHT - 2) : SPARK_HEIGHT / 2;
  return values.map((value, at) => `${(at * step).toFixed(1)},${height(value).toFixed(1)}`).join(' ');
}

/** Paths as a tree of their levels. */
export function branches(names) {
  const root = { children: new Map(), paths: 0 };
  for (const name of names) {
    let at = root;
    let place = '';
    for (const level of name.split('/')) {
      place = at === root ? level : `${place}/${level}`;
      at.paths += 1;
      let child = at.children.get(level);
      if (!child) {
        child = { name: level, place, children: new Map(), paths: 0, path: null };
        at.children.set(level, child);
      }
      at = child;
    }
    at.path = name;
  }
  root.children.forEach((child, name) => root.children.set(name, joined(child)));
  return root;
}

/** Levels that only lead to one other are one line. */
function joined(branch) {
  let at = branch;
  while (at.path === null && at.children.size === 1) {
    const [only] = at.children.values();
    at = { ...only, name: `${at.name}/${only.name}` };
  }
  at.children.forEach((child, name) => at.children.set(name, joined(child)));
  return at;
}

/** What the node itself publishes comes last. */
function order(a, b) {
  const isOwn = (branch) => branch.place.split('/')[0] === 'forebay';
  return isOwn(a) - isOwn(b) || a.name.localeCompare(b.name, undefined, { numeric: true });
}

/** Shows the tree in `main` until the function that it returns is called. */
export function show(main) {
  const search = element('input', {
    type: 'search', placeholder: 'Find a path', 'aria-label': 'Find a path', id: 'find',
  });
  const summary = element('p', { class: 'quiet', role: 'status' });
  const tree = element('ul', { class: 'tree', id: 'tree' });
  fill(main, element('h2', {}, 'Live values'), element('div', { class: 'bar' }, search), summary, tree);
  const leaves = new Map();

  const values = (latest) => {
    const unit = latest.unit ? ` ${latest.unit}` : '';
    if (latest.numbers.length === 0) {
      const kind = latest.quality && latest.quality !== 'good' ? ' bad' : '';
      return [element('span', { class: `value${kind}` }, latest.text || latest.quality || 'no value')];
    }
    return latest.numbers.map((number) => {
      const label = [latest.path, number.field].filter(Boolean).join(' ');
      const field = number.field && number.field !== 'value'
        ? element('span', { class: 'field' }, number.field) : null;
      return element('a', {
        class: 'value', href: chartLink([[latest.path, number.field]]), 'aria-label': `Chart of ${label}`,
      }, field, element('b', {}, shown(number.value) + unit), number.spark?.length > 1 ? spark(number.spark) : null);
    });
  };
  const refresh = (leaf, latest) => {
    // A link that has the focus keeps it: its content changes, not itself.
    const links = leaf.values.querySelectorAll('a.value');
    const isSame = links.length === latest.numbers.length && links.length > 0;
    if (isSame) {
      latest.numbers.forEach((number, index) => {
        const link = links[index];
        const unit = latest.unit ? ` ${latest.unit}` : '';
        link.querySelector('b').textContent = shown(number.value) + unit;
        const line = link.querySelector('polyline');
        if (line) line.setAttribute('points', sparkPoints(number.spark));
        else if (number.spark?.length > 1) link.append(spark(number.spark));
      });
    } else fill(leaf.values, values(latest));
    leaf.quality.textContent = latest.quality && latest.quality !== 'good' ? latest.quality : '';
    leaf.time = latest.time;
  };
  const row = (branch) => {
    const isOpen = open.has(branch.place);
    const item = element('li', {});
    const line = element('div', { class: 'row' });
    if (branch.children.size > 0) {
      line.append(element('button', {
        class: 'toggle', type: 'button', 'aria-expanded': String(isOpen), 'aria-label': `Below ${branch.place}`,
        onclick: () => {
          if (!open.delete(branch.place)) open.add(branch.place);
          render();
          document.getElementById(`t-${branch.place}`)?.focus();
        },
        id: `t-${branch.place}`,
      }));
    } else line.append(element('span', { class: 'leaf' }));
    line.append(element('span', { class: 'name' }, branch.name || '(empty)'));
    if (branch.children.size > 0 && !isOpen) {
      line.append(element('span', { class: 'count' }, `${branch.paths} below`));
    }
    const latest = branch.path === null ? null : paths.known.get(branch.path);
    if (latest) {
      const leaf = {
        values: element('span', { class: 'values' }),
        quality: element('span', { class: 'bad' }),
        age: element('span', { class: 'age' }),
        time: latest.time,
      };
      refresh(leaf, latest);
      line.append(leaf.values, leaf.quality, leaf.age);
      leaves.set(branch.path, leaf);
    }
    item.append(line);
    if (isOpen && branch.children.size > 0) item.append(list(branch, element('ul', {})));
    return item;
  };
  const list = (branch, into) => {
    const children = [...branch.children.values()];
    children.sort(order);
    const isLong = children.length > CHILDREN_MAX && !open.has(`all ${branch.place}`);
    const shownChildren = isLong ? children.slice(0, CHILDREN_MAX) : children;
    fill(into, shownChildren.map(row));
    if (isLong) {
      into.append(element('li', {}, element('button', {
        type: 'button',
        onclick: () => { open.add(`all ${branch.place}`); render(); },
      }, `Show ${children.length - CHILDREN_MAX} more`)));
    }
    return into;
  };
  const render = () => {
    const wanted = search.value.trim().toLowerCase();
    const names = [...paths.known.keys()].filter((name) => name.toLowerCase().includes(wanted));
    const root = branches(names);
    if (!wasOpened && names.length > 0) {
      wasOpened = true;
      const reveal = (branch) => {
        if (branch.place !== undefined) open.add(branch.place);
        if (names.length <= OPEN_MAX) branch.children.forEach(reveal);
      };
      reveal(root);
      root.children.forEach((child) => open.add(child.place));
    }
    if (wanted && names.length <= OPEN_MAX) {
      const reveal = (branch) => { open.add(branch.place); branch.children.forEach(reveal); };
      root.children.forEach(reveal);
    }
    leaves.clear();
    list(root, tree);
    const found = wanted ? `${names.length} of ${paths.known.size}` : `${paths.known.size}`;
    const missing = paths.leftOut > 0 ? '; the node has more than it can show here' : '';
    summary.textContent = names.length === 0 && !wanted
      ? 'Nothing has been published yet. Publish over MQTT, or configure a device.'
      : `${found} paths${missing}`;
    age();
  };
  const age = () => {
    for (const leaf of leaves.values()) {
      leaf.age.textContent = `${span(Math.max(0, (paths.now - leaf.time) / 1000))}`.replace(/^(\d.*)$/, '$1 ago');
    }
  };
  const news = (event) => {
    for (const name of event.detail) {
      const leaf = leaves.get(name);
      if (leaf) refresh(leaf, paths.known.get(name));
    }
    age();
  };
  search.addEventListener('input', render);
  paths.addEventListener('list', render);
  paths.addEventListener('news', news);
  const clock = setInterval(age, 5000);
  const leave = paths.follow();
  if (paths.known.size > 0) render();
  else summary.textContent = 'Reading the log…';
  return () => {
    clearInterval(clock);
    paths.removeEventListener('list', render);
    paths.removeEventListener('news', news);
    leave();
  };
}
