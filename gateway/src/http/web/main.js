// Which page is shown, and who keeps it fresh.

import { element, fill } from './dom.js';
import { ask, LoginNeeded, paths, tell } from './node.js';
import * as charts from './charts.js';
import * as login from './login.js';
import * as pages from './pages.js';
import * as tree from './tree.js';

const PAGES = [
  { at: '', name: 'Live', show: tree.show },
  { at: 'chart', name: 'Chart', show: charts.show },
  { at: 'alerts', name: 'Alerts', polled: pages.alerts },
  { at: 'devices', name: 'Devices', polled: pages.devices },
  { at: 'queries', name: 'Queries', polled: pages.queries },
  { at: 'topics', name: 'Topics', polled: pages.topics },
  { at: 'uplink', name: 'Uplink', polled: pages.uplink },
  { at: 'audit', name: 'Audit', polled: pages.audit },
];
const POLL_MS = 2000;

const main = document.getElementById('main');
const nav = document.getElementById('nav');
const link = document.getElementById('link');
let leave = () => {};

function linkIs(isUp, text) {
  link.textContent = text;
  link.classList.toggle('lost', !isUp);
}

/** Shows a page of facts and reads them again and again. */
function poll(page) {
  let isShown = true;
  let timer = null;
  const round = async () => {
    try {
      const facts = await page.load();
      if (!isShown) return;
      // Somebody who types or is about to click keeps the page as it is.
      if (!main.contains(document.activeElement) || document.activeElement === main || !page.isBusy?.(main)) {
        const place = focusOf();
        page.draw(main, facts, round);
        place?.();
      }
      linkIs(true, 'live');
    } catch (error) {
      if (!isShown) return;
      if (error instanceof LoginNeeded) return enter();
      linkIs(false, `no answer: ${error.message}`);
    }
    clearTimeout(timer);
    timer = setTimeout(round, POLL_MS);
  };
  fill(main, element('p', { class: 'quiet' }, 'Loading…'));
  round();
  return () => { isShown = false; clearTimeout(timer); };
}

/** Remembers which element has the focus by its id. */
function focusOf() {
  const id = document.activeElement?.id;
  return id && main.contains(document.activeElement) ? () => document.getElementById(id)?.focus() : null;
}

function enter() {
  leave();
  linkIs(true, '');
  leave = login.show(main, () => { greet(); route(); });
}

function route() {
  leave();
  const [at, query] = location.hash.replace(/^#\/?/, '').split('?');
  const page = PAGES.find((one) => one.at === at) ?? PAGES[0];
  document.title = `${page.name} · ${document.getElementById('node-name').textContent}`;
  fill(nav, PAGES.map((one) => element('a', {
    href: `#/${one.at}`, 'aria-current': one === page ? 'page' : false,
  }, one.name)));
  leave = page.show ? page.show(main, new URLSearchParams(query ?? '')) : poll(page.polled());
}

/** Who is logged in, where there are logins. */
function showUser(me) {
  document.getElementById('me')?.remove();
  if (!me.login) return;
  const button = me.user
    ? element('button', {
      type: 'button', id: 'log-out',
      onclick: async () => { await tell('/api/v1/logout', {}); location.reload(); },
    }, 'Log out')
    : element('button', { type: 'button', id: 'log-in', onclick: enter }, 'Log in');
  link.after(element('span', { id: 'me', class: 'quiet' }, me.user ? `${me.user} ` : '', button));
}

/** The name of the node, and who is logged in. */
async function greet() {
  try {
    const me = await ask('/api/v1/me');
    showUser(me);
    const status = await ask('/api/v1/status');
    document.getElementById('node-name').textContent = status.node;
    document.title = document.title.replace(/·.*$/, `· ${status.node}`);
  } catch (error) {
    if (error instanceof LoginNeeded) enter();
    else linkIs(false, `no answer: ${error.message}`);
  }
}

paths.addEventListener('up', () => linkIs(true, 'live'));
paths.addEventListener('lost', () => linkIs(false, 'connection lost, trying again'));
paths.addEventListener('failed', (event) => {
  if (event.detail instanceof LoginNeeded) enter();
  else linkIs(false, `no answer: ${event.detail.message}`);
});
addEventListener('hashchange', () => { route(); main.focus({ preventScroll: true }); scrollTo(0, 0); });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', route);
route();
greet();
