// What the tables hold: for each its columns, its rows of the selection, and what opening a row does.

const text = (label, width, value, more = {}) => ({ label, width, value, text: (row) => String(value(row)), ...more });
const number = (label, width, value, more = {}) => ({ label, width, value, text: (row) => count(value(row)), number: true, ...more });
const family = (row) => (row.family === 6 ? 'IPv6' : 'IPv4');


// Rows of entities that the selected packets used.
function used(entities) {
  return entities.rows.filter((row) => row.packets > 0);
}

function entityView(model, name, entities, columns, words) {
  return {
    name,
    rows: () => used(entities),
    columns,
    open: (row, page) => {
      const id = entities.rows.indexOf(row);
      page.filter({ label: words(row), test: model.byWays(entities.waysOf(id, model.ways)) });
    },
  };
}

function pathsView(model) {
  const { columns, strings } = model.data;
  const flow = (i) => columns.flow[i];
  const verdict = (i) => model.wayVerdict[columns.way[i]];
  return {
    name: 'Paths',
    rows: () => model.chosen,
    columns: [
      { label: '#', width: '76px', value: (i) => columns.packet[i], text: (i) => String(columns.packet[i]), number: true, down: false },
      { label: 'Time (s)', width: '100px', value: (i) => columns.start[i], text: (i) => seconds(columns.start[i]), number: true, down: false },
      text('Source', 'minmax(140px, 1.4fr)', (i) => flowEnds(model, flow(i))[0]),
      text('Destination', 'minmax(140px, 1.4fr)', (i) => flowEnds(model, flow(i))[1]),
      text('Protocol', '76px', (i) => strings[columns.flow_proto[flow(i)]]),
      text('Namespaces', 'minmax(110px, 1.2fr)', (i) => model.wayText[columns.way[i]]),
      text('End', 'minmax(150px, 2fr)', verdict, { tone: (i) => (columns.flags[i] & DROPPED ? 'bad' : '') }),
      { label: 'Took (ms)', width: '90px', value: (i) => columns.duration[i], text: (i) => milliseconds(columns.duration[i]), number: true },
      text('Note', 'minmax(90px, 0.8fr)', (i) => model.noteOf(i), { tone: (i) => (columns.flags[i] & COMPLETE ? '' : 'warn') }),
    ],
    words: (i) => `#${columns.packet[i]} ${model.textOfFlow(flow(i))} ${model.wayText[columns.way[i]]} ${verdict(i)} ${model.noteOf(i)}`,
    test: (filter) => model.byWords(filter),
    open: (i, page) => page.openPath(i),
  };
}

function rulesView(model) {
  const columns = [
    text('Namespace', 'minmax(90px, 0.7fr)', (row) => row.netns),
    text('Family', '70px', family),
    { label: 'Rule', width: '76px', value: (row) => row.rule, text: (row) => String(row.rule), number: true, down: false },
    text('Text', 'minmax(220px, 3fr)', (row) => row.text),
    number('Packets', '96px', (row) => row.packets, { bar: (row) => share('Rules', row.packets) }),
    number('Lookups', '90px', (row) => row.lookups),
    number('Hits', '90px', (row) => row.hits),
    number('No hit', '90px', (row) => row.lookups - row.hits),
    number('Inferred', '90px', (row) => row.inferred),
  ];
  return entityView(model, 'Rules', model.rules, columns, (row) => `rule ${row.rule}: ${row.text} in ${row.netns}`);
}

function tablesView(model) {
  const columns = [
    text('Namespace', 'minmax(90px, 1fr)', (row) => row.netns),
    text('Family', '70px', family),
    text('Table', 'minmax(90px, 1fr)', (row) => row.table),
    number('Packets', '96px', (row) => row.packets, { bar: (row) => share('Tables', row.packets) }),
    number('Lookups', '90px', (row) => row.lookups),
    number('Hits', '90px', (row) => row.hits),
    number('No hit', '90px', (row) => row.lookups - row.hits),
  ];
  return entityView(model, 'Tables', model.tables, columns, (row) => `table ${row.table} in ${row.netns}`);
}

function routesView(model) {
  const columns = [
    text('Namespace', 'minmax(90px, 0.7fr)', (row) => row.netns),
    text('Table', 'minmax(70px, 0.7fr)', (row) => row.table),
    text('Prefix', 'minmax(130px, 1.3fr)', (row) => row.prefix),
    text('Gateway', 'minmax(110px, 1fr)', (row) => row.gateway),
    text('Device', 'minmax(70px, 0.7fr)', (row) => row.dev),
    text('Type', '90px', (row) => row.type),
    text('Result', '96px', (row) => row.result, { tone: (row) => (row.result === 'hit' ? '' : 'bad') }),
    number('Packets', '96px', (row) => row.packets, { bar: (row) => share('Routes', row.packets) }),
    number('Lookups', '90px', (row) => row.lookups),
    number('Inferred', '90px', (row) => row.inferred),
  ];
  const words = (row) => ['route', row.prefix, row.gateway && `via ${row.gateway}`, row.dev && `dev ${row.dev}`, `table ${row.table} in ${row.netns}`].filter(Boolean).join(' ');
  return entityView(model, 'Routes', model.routes, columns, words);
}

function dropsView(model) {
  const columns = [
    text('Namespace', 'minmax(90px, 0.7fr)', (row) => row.netns),
    text('Came in on', 'minmax(90px, 0.7fr)', (row) => row.inDev || (row.origin ? `sent by ${row.origin}` : 'sent here')),
    text('Reason', 'minmax(300px, 4fr)', (row) => row.reason, { tone: () => 'bad' }),
    number('Packets', '110px', (row) => row.packets, { bar: (row) => share('Drops', row.packets) }),
  ];
  return entityView(model, 'Drops', model.drops, columns, (row) => `drop in ${row.netns}: ${row.reason}`);
}

function flowsView(model) {
  const { columns, strings } = model.data;
  return {
    name: 'Flows',
    rows: () => {
      const found = [];
      for (let flow = 0; flow < model.flows; flow++) if (model.flowCount[flow]) found.push(flow);
      return found;
    },
    columns: [
      text('Source', 'minmax(150px, 2fr)', (flow) => flowEnds(model, flow)[0]),
      text('Destination', 'minmax(150px, 2fr)', (flow) => flowEnds(model, flow)[1]),
      text('Protocol', '90px', (flow) => strings[columns.flow_proto[flow]]),
      number('Packets', '110px', (flow) => model.flowCount[flow], { bar: (flow) => share('Flows', model.flowCount[flow]) }),
      number('Dropped', '110px', (flow) => model.flowDrops[flow], { tone: (flow) => (model.flowDrops[flow] ? 'bad' : '') }),
    ],
    words: (flow) => model.textOfFlow(flow),
    open: (flow, page) => page.filter({ label: `flow ${model.textOfFlow(flow)}`, test: (i) => columns.flow[i] === flow }),
  };
}

function changesView(model) {
  return {
    name: 'Changes',
    rows: () => model.data.changes,
    columns: [
      { label: 'Time (s)', width: '110px', value: (row) => row.at, text: (row) => seconds(row.at), number: true, down: false },
      text('Noticed', '130px', (row) => (row.late < 1e6 ? 'at once' : `up to ${duration(row.late)} late`)),
      text('Namespace', 'minmax(90px, 0.7fr)', (row) => row.netns),
      text('Kind', '100px', (row) => row.kind),
      text('Change', 'minmax(260px, 4fr)', (row) => row.text),
      text('By', 'minmax(90px, 0.7fr)', (row) => row.by || ''),
    ],
    open: (row, page) => page.select(Math.max(0, row.at - model.span / 50), Math.min(model.span, row.at + model.span / 50)),
  };
}

// The bars of a table are shares of its largest number; set anew when its rows are shown.
const mosts = new Map();
const share = (name, value) => value / (mosts.get(name) || 1);

function viewsOf(model) {
  const views = [pathsView, rulesView, tablesView, routesView, dropsView, flowsView].map((make) => make(model));
  if (model.data.changes.length) views.push(changesView(model));
  for (const view of views) {
    view.words ||= (row) => view.columns.map((column) => column.text(row)).join(' ');
    view.test ||= (filter) => {
      const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
      return (row) => {
        const said = view.words(row).toLowerCase();
        return words.every((word) => said.includes(word));
      };
    };
    view.prepare = (rows) => {
      const bar = view.columns.find((column) => column.bar);
      if (bar) mosts.set(view.name, largest(Array.from(rows, bar.value)));
    };
  }
  return views;
}
