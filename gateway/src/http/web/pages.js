// Pages of facts: each loads them and draws them.

import { badge, bytes, count, element, figures, fill, moment, span, table } from './dom.js';
import { ask, tell } from './node.js';

const status = () => ask('/api/v1/status');

function notes(texts) {
  return texts.map((text) => element('p', { class: 'note', role: 'alert' }, text));
}

/** Alerts that are active, and those of before. */
export function alerts() {
  return {
    load: async () => {
      const [active, history] = await Promise.all([ask('/api/v1/alerts'), ask('/api/v1/alerts/history')]);
      return { active, history };
    },
    isBusy: (main) => document.activeElement?.tagName === 'INPUT' && main.contains(document.activeElement),
    draw: (main, { active, history }, again) => {
      const items = active.map((one) => alertPanel(one, again));
      const rows = history.slice(-200).reverse().map(({ alert }) => [
        moment(alert.time), alert.state, alert.severity ?? '', alert.alert, keyOf(alert), alert.message ?? '',
      ]);
      const heads = ['Time', 'What', 'Severity', 'Alert', 'Of', 'Message'].map((name) => ({ name }));
      fill(main, element('h2', {}, 'Alerts'),
        items.length > 0 ? items : element('p', { class: 'good' }, 'No alert is active.'),
        element('h3', {}, 'History'),
        rows.length > 0 ? table('Events of alerts, newest first', heads, rows)
          : element('p', { class: 'quiet' }, 'No query has raised an alert yet.'));
    },
  };
}

function keyOf(alert) {
  return Object.values(alert.key ?? {}).join(' ');
}

function alertPanel(one, again) {
  const { alert } = one;
  const kind = alert.severity === 'info' ? 'quiet' : alert.severity === 'warning' ? 'warn' : 'bad';
  const failure = element('p', { class: 'bad', role: 'alert' });
  const by = element('input', {
    'aria-label': `Your name, to acknowledge ${one.id}`, placeholder: 'Your name', required: true, maxlength: '64',
    id: `by-${one.id}`, value: localStorage.getItem('name') ?? '', autocomplete: 'name',
  });
  const form = element('form', {
    class: 'bar',
    onsubmit: async (event) => {
      event.preventDefault();
      try {
        await tell('/api/v1/alerts/acknowledge', { id: one.id, by: by.value });
        localStorage.setItem('name', by.value);
        document.activeElement?.blur();
        again();
      } catch (error) {
        failure.textContent = error.message;
      }
    },
  }, by, element('button', { class: 'primary', type: 'submit' }, 'Acknowledge'));
  const facts = [
    alert.value === undefined || alert.value === null ? null : `value ${alert.value}`,
    alert.threshold === undefined || alert.threshold === null ? null : `limit ${alert.threshold}`,
    `since ${moment(alert.since ?? alert.time)}`,
  ];
  return element('section', { class: 'panel', 'aria-label': one.id },
    element('h3', {}, element('span', { class: `badge ${kind}` }, alert.severity ?? 'alert'), ' ',
      alert.message ?? alert.alert),
    element('p', {}, `${keyOf(alert) || one.path}: ${facts.filter(Boolean).join(', ')}`),
    one.acknowledged
      ? element('p', { class: 'quiet' }, `Acknowledged by ${one.acknowledged.by}, ${moment(one.acknowledged.time)}`)
      : [form, failure]);
}

/** Connections to machines and brokers. */
export function devices() {
  return {
    load: status,
    draw: (main, facts) => {
      const rows = facts.devices.map((device) => [
        device.name, device.protocol, badge(device.state), count(device.tags), count(device.readings),
        count(device.errors), count(device.reconnects),
        device.last_reading_ms ? `${span((Date.now() - device.last_reading_ms) / 1000)} ago`.replace('now ago', 'now') : '–',
        [device.reason, ...device.alarms].filter(Boolean).join('; '),
      ]);
      const heads = [{ name: 'Device' }, { name: 'Protocol' }, { name: 'State' }, { name: 'Tags', number: true },
        { name: 'Readings', number: true }, { name: 'Errors', number: true }, { name: 'Reconnects', number: true },
        { name: 'Last reading' }, { name: 'Last error' }];
      const mqtt = facts.mqtt;
      fill(main, element('h2', {}, 'Devices'),
        mqtt ? figures([
          ['MQTT connections', count(mqtt.connections)], ['Sessions', count(mqtt.sessions)],
          ['Publishes taken', count(mqtt.publishes_in.reduce((sum, one) => sum + one, 0))],
          ['Refused', count(mqtt.publishes_refused), mqtt.publishes_refused > 0 ? 'warn' : null],
        ]) : null,
        rows.length > 0 ? table('Machines and other brokers', heads, rows)
          : element('p', { class: 'quiet' }, 'No Modbus, OPC UA, Sparkplug or bridge section is configured.'));
    },
  };
}

/** Continuous queries. */
export function queries() {
  return {
    load: status,
    draw: (main, facts) => {
      const rows = facts.queries.map((query) => [
        query.name, badge(query.state), count(query.rows_in), count(query.rows_out), count(query.late),
        query.watermark_ms ? moment(query.watermark_ms) : '–', count(query.lag_records), bytes(query.state_bytes),
        count(query.active_alerts), [query.reason, ...query.alarms].filter(Boolean).join('; '),
      ]);
      const heads = [{ name: 'Query' }, { name: 'State' }, { name: 'Rows in', number: true },
        { name: 'Rows out', number: true }, { name: 'Late', number: true }, { name: 'Windows closed up to' },
        { name: 'Behind', number: true }, { name: 'Memory', number: true }, { name: 'Alerts', number: true },
        { name: 'What is wrong' }];
      fill(main, element('h2', {}, 'Queries'),
        rows.length > 0 ? table('Continuous queries', heads, rows)
          : element('p', { class: 'quiet' }, 'No [[query]] section is configured.'));
    },
  };
}

/** Topics, partitions, consumer groups. */
export function topics() {
  return {
    load: async () => ({ facts: await status(), groups: await ask('/api/v1/groups') }),
    draw: (main, { facts, groups }) => {
      const store = facts.storage;
      const partitions = facts.topics.flatMap((topic) => topic.partitions.map((one) => [
        topic.name, count(one.partition), count(one.log_start), count(one.durable),
        count(one.durable - one.log_start), bytes(one.size_bytes),
        one.gaps.map((gap) => `${gap.from}–${gap.to - 1}: ${gap.reason}`).join('; '),
      ]));
      const lags = groups.flatMap((group) => group.offsets.map((one) => [
        group.group, badge(group.state), group.members.join(', '), one.topic, count(one.partition),
        count(one.committed), one.lag === null ? 'topic deleted' : count(one.lag),
      ]));
      fill(main, element('h2', {}, 'Topics'), notes(store.alarms),
        figures([
          ['On disk', bytes(store.used_bytes)], ['Free', bytes(store.free_bytes), store.full ? 'bad' : null],
          ['Topics', count(facts.topics.length)], ['Commits', count(store.commits)],
          ['Newest commit', `${(store.commit_latency.last_us / 1000).toFixed(1)} ms`],
          ['Up for', span(facts.uptime_seconds)],
        ]),
        table('Partitions', [{ name: 'Topic' }, { name: 'Partition', number: true }, { name: 'First', number: true },
          { name: 'Durable up to', number: true }, { name: 'Records', number: true }, { name: 'Size', number: true },
          { name: 'Gaps' }], partitions),
        element('h3', {}, 'Consumer groups'),
        lags.length > 0 ? table('Consumer groups', [{ name: 'Group' }, { name: 'State' }, { name: 'Members' },
          { name: 'Topic' }, { name: 'Partition', number: true }, { name: 'Committed', number: true },
          { name: 'Lag', number: true }], lags)
          : element('p', { class: 'quiet' }, 'No Kafka client has committed an offset.'));
    },
  };
}

/** Seconds until the hub has everything. */
export function catchUp(link) {
  if (link.lag_records === 0) return 0;
  const gain = link.drain_records_per_second - link.ingest_records_per_second;
  return gain > 0 ? link.lag_records / gain : Infinity;
}

/** The way to the hub. */
export function uplink() {
  return {
    load: status,
    draw: (main, { uplink: link }) => {
      if (!link) {
        fill(main, element('h2', {}, 'Uplink'),
          element('p', { class: 'quiet' }, 'No [uplink] section is configured: this node forwards nothing.'));
        return;
      }
      const seconds = catchUp(link);
      const rows = link.partitions.map((one) => [
        one.topic, count(one.partition), count(one.acknowledged), count(one.lag_records),
        element('span', one.stopped ? { class: 'bad' } : {}, one.state),
      ]);
      fill(main, element('h2', {}, 'Uplink'), link.last_error && !link.connected ? notes([link.last_error]) : null,
        figures([
          ['Connection', badge(link.connected ? 'connected' : 'down')],
          ['Waiting here', `${count(link.lag_records)} records`], ['In bytes', bytes(link.lag_bytes)],
          ['Leaving', `${count(Math.round(link.drain_records_per_second))}/s`],
          ['Coming in', `${count(Math.round(link.ingest_records_per_second))}/s`],
          ['Buffer left', link.hours_of_buffer_left === null ? '–' : span(link.hours_of_buffer_left * 3600)],
          ['Caught up in', seconds === 0 ? 'it is' : seconds === Infinity ? 'not at this rate' : span(seconds)],
        ]),
        table('Forwarded partitions', [{ name: 'Topic' }, { name: 'Partition', number: true },
          { name: 'At the hub up to', number: true }, { name: 'Waiting', number: true }, { name: 'State' }], rows),
        link.last_error ? element('p', { class: 'quiet' }, `Newest failure: ${link.last_error}`) : null);
    },
  };
}

/** Nothing lost: every range that is missing, and what the hub has confirmed. */
export function audit() {
  return {
    load: status,
    draw: (main, facts) => {
      const confirmed = new Map((facts.uplink?.partitions ?? []).map((one) => [`${one.topic}/${one.partition}`, one]));
      const rows = facts.topics.flatMap((topic) => topic.partitions.map((one) => {
        const link = confirmed.get(`${topic.name}/${one.partition}`);
        const missing = one.gaps.reduce((sum, gap) => sum + gap.to - gap.from, 0);
        return [topic.name, count(one.partition), count(one.durable), link ? count(link.acknowledged) : 'not forwarded',
          link ? count(link.lag_records) : '–', missing > 0 ? element('span', { class: 'bad' }, count(missing)) : '0',
          one.gaps.map((gap) => `${gap.from}–${gap.to - 1} ${gap.reason}`).join('; ')];
      }));
      const lost = facts.topics.flatMap((topic) => topic.partitions.flatMap((one) => one.gaps))
        .reduce((sum, gap) => sum + gap.to - gap.from, 0);
      fill(main, element('h2', {}, 'Audit'),
        element('p', { class: lost > 0 ? 'bad' : 'good' }, lost > 0
          ? `${count(lost)} offsets have no records; each range is named below with its reason.`
          : 'Every offset that was acknowledged is there.'),
        table('Acknowledged here, confirmed by the hub, missing', [{ name: 'Topic' },
          { name: 'Partition', number: true }, { name: 'Acknowledged here', number: true },
          { name: 'Confirmed by the hub', number: true }, { name: 'On the way', number: true },
          { name: 'Missing', number: true }, { name: 'Ranges' }], rows),
        element('p', { class: 'quiet' },
          'Both logs are compared record by record with: forebay audit --gateway HOST:PORT --hub HOST:PORT'));
    },
  };
}
