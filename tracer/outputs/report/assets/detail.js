// One path as the tree that `fibtrace` prints. Trees are shared by paths; what differs is filled in here.

const PID = 0xe000;
const REF = 0xe100;
const LOOK = 0xe200;
const TONES = ['bold', 'good', 'bad', 'dim', ''];

function treeParts(model, i) {
  const { columns, trees } = model.data;
  const [body, durationAt, openHops] = trees[columns.tree[i]];
  const before = (ends) => (i ? ends[i - 1] : 0);
  const pids = columns.pids.subarray(before(columns.pid_end), columns.pid_end[i]);
  const refs = columns.refs.subarray(before(columns.ref_end), columns.ref_end[i]);
  const exact = columns.flags[i] & EXACT;
  const filled = body
    .replace(/([\ue000-\ue0ff])\1*/g, (run) => (exact ? String(pids[run.charCodeAt(0) - PID]) : '?'.repeat(run.length)))
    .replace(/[\ue100-\ue1ff]/g, (one) => (exact ? String(refs[one.charCodeAt(0) - REF]) : '?'));
  return { header: headerOf(model, i, durationAt, openHops), body: filled };
}

function headerOf(model, i, durationAt, openHops) {
  const { columns, strings } = model.data;
  const flow = columns.flow[i];
  const parts = [`#${columns.packet[i]}`, flowEnds(model, flow).join(' → '), strings[columns.flow_proto[flow]] || '?'];
  if (columns.mark[i]) parts.push(`mark ${columns.mark[i]}`);
  if (columns.info[i]) parts.push(strings[columns.info[i]]);
  const left = parts.join('  ');
  const trouble = troubleOf(columns, i, openHops);
  const length = [...left].length + (trouble ? [...trouble].length + 2 : 0);
  const duration = `${' '.repeat(Math.max(2, durationAt - length))}${milliseconds(columns.duration[i])} ms`;
  const mark = (tone) => String.fromCharCode(LOOK + tone);
  return `${mark(0)}${left}${mark(4)}${trouble ? `  ${mark(2)}${trouble}${mark(4)}` : ''}${duration}`;
}

function troubleOf(columns, i, openHops) {
  const said = [];
  if (!(columns.flags[i] & COMPLETE)) said.push(openHops ? `incomplete: its end in ${openHops} was not seen` : 'incomplete');
  const lost = columns.lost[i];
  if (lost) said.push(`${lost} record${lost === 1 ? '' : 's'} lost near here`);
  return said.join(', ');
}

// The tree as plain text, as the command line prints it without colours.
function treeText(model, i) {
  const { header, body } = treeParts(model, i);
  return `${header}\n${body}`.replace(/[\ue200-\ue2ff]/g, '');
}

function paintTree(parent, model, i) {
  const { header, body } = treeParts(model, i);
  parent.replaceChildren();
  let tone = '';
  for (const part of `${header}\n${body}`.split(/([\ue200-\ue2ff])/)) {
    const code = part.length === 1 ? part.charCodeAt(0) - LOOK : -1;
    if (code >= 0 && code < TONES.length) tone = TONES[code];
    else if (part) add(parent, 'span', tone ? { class: tone } : {}, part);
  }
}

function noteOfTree(model, i) {
  const { columns, meta } = model.data;
  if (columns.tree[i] < 0) return `The tree of this path was left out to keep the page small. It is in the capture: fibtrace convert ${meta.name} - --format tree`;
  if (columns.flags[i] & EXACT) return '';
  return 'To keep the page small, this is the tree of another packet that went the same way: the same rules, tables, routes and devices. Process ids, packets that it was relayed in and the details of reasons may be others.';
}

function inferredIn(model, i) {
  const tree = model.data.columns.tree[i];
  return tree >= 0 && Boolean(model.data.trees[tree][3]);
}
