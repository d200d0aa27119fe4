// What the node says, and what becomes of it.

/** The node does not know who asks. */
export class LoginNeeded extends Error {}

async function answerOf(response) {
  if (response.status === 401) throw new LoginNeeded('log in first');
  if (!response.ok) {
    const reason = (await response.text()).trim();
    throw new Error(reason || `the node answered ${response.status}`);
  }
  return response;
}

/** Asks for JSON. */
export async function ask(path, signal) {
  const response = await fetch(path, { signal, headers: { accept: 'application/json' } });
  return (await answerOf(response)).json();
}

/** Sends JSON. */
export async function tell(path, body) {
  const response = await fetch(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const answer = await answerOf(response);
  const kind = answer.headers.get('content-type') ?? '';
  return kind.startsWith('application/json') ? answer.json() : null;
}

const SPARK_POINTS = 40;
const SPARK_INTERVAL_MS = 1000;

/** The paths of the node, kept up to date while somebody looks. */
export class Paths extends EventTarget {
  #source = null;
  #revision = 0;
  #users = 0;
  #starting = false;
  known = new Map();
  leftOut = 0;
  /** What to add to the time of this browser to get that of the node. */
  skew = 0;

  /** Follows the node until the function that it returns is called. */
  follow() {
    this.#users += 1;
    if (this.#users === 1) this.#start();
    let isFollowing = true;
    return () => {
      if (!isFollowing) return;
      isFollowing = false;
      this.#users -= 1;
      if (this.#users === 0) this.#stop();
    };
  }

  get now() {
    return Date.now() + this.skew;
  }

  async #start() {
    if (this.#starting) return;
    this.#starting = true;
    try {
      const all = await ask('/api/v1/paths');
      this.skew = all.now - Date.now();
      this.leftOut = all.left_out;
      this.#revision = all.revision;
      this.known = new Map(all.paths.map((latest) => [latest.path, latest]));
      this.dispatchEvent(new CustomEvent('list'));
      if (this.#users > 0) this.#open();
    } catch (error) {
      this.dispatchEvent(new CustomEvent('failed', { detail: error }));
      if (this.#users > 0 && !(error instanceof LoginNeeded)) {
        setTimeout(() => this.#users > 0 && this.#start(), 3000);
      }
    } finally {
      this.#starting = false;
    }
  }

  #open() {
    this.#stop();
    const source = new EventSource(`/api/v1/live?after=${this.#revision}`);
    this.#source = source;
    source.onopen = () => this.dispatchEvent(new CustomEvent('up'));
    source.onmessage = (event) => {
      this.#revision = Number(event.lastEventId);
      this.#take(JSON.parse(event.data));
    };
    source.onerror = () => {
      // The node may have started anew and count from the beginning.
      this.#stop();
      this.dispatchEvent(new CustomEvent('lost'));
      if (this.#users > 0) setTimeout(() => this.#users > 0 && this.#start(), 2000);
    };
  }

  #stop() {
    this.#source?.close();
    this.#source = null;
  }

  #take(changes) {
    const changed = [];
    let isNew = false;
    for (const change of changes) {
      const before = this.known.get(change.path);
      isNew ||= before === undefined;
      const moves = !before || change.time - (before.sparked ?? 0) >= SPARK_INTERVAL_MS;
      const numbers = change.numbers.map(([field, value]) => {
        const spark = before?.numbers.find((number) => number.field === field)?.spark?.slice() ?? [];
        if (!moves) spark.pop();
        spark.push(value);
        if (spark.length > SPARK_POINTS) spark.shift();
        return { field, value, spark };
      });
      const sparked = moves ? change.time : before?.sparked;
      this.known.set(change.path, { ...change, numbers, sparked });
      changed.push(change.path);
    }
    this.dispatchEvent(new CustomEvent(isNew ? 'list' : 'news', { detail: changed }));
  }
}

export const paths = new Paths();
