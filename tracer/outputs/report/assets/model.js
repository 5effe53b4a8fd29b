// The capture as tables of entities, and what of it is selected.

const COMPLETE = 1;
const DROPPED = 2;
const EXACT = 4;

// Strings instead of numbers, for one step at a time.
function withSteps(data) {
  const names = data.step;
  const columns = names.map((name) => data.columns[`step_${name}`]);
  const known = [];
  data.stepOf = (id) => {
    if (!known[id]) {
      known[id] = Object.fromEntries(names.map((name, at) => [name, data.strings[columns[at][id]]]));
      known[id].reason = known[id].reason.replace(/^drop: /, '');
    }
    return known[id];
  };
  return data;
}

class Entities {
  // Things that ways use, each use with its way: what is counted is derived from how many packets went each way.
  constructor() {
    this.rows = [];
    this.byKey = new Map();
    this.uses = { way: [], id: [], hit: [], inferred: [], first: [], firstHit: [] };
  }

  of(key, make) {
    if (!this.byKey.has(key)) {
      this.byKey.set(key, this.rows.length);
      this.rows.push(make());
    }
    return this.byKey.get(key);
  }

  use(way, id, hit, inferred = false) {
    const uses = this.uses;
    const row = this.rows[id];
    uses.way.push(way);
    uses.id.push(id);
    uses.hit.push(hit ? 1 : 0);
    uses.inferred.push(inferred ? 1 : 0);
    uses.first.push(row.seenIn === way ? 0 : 1);
    uses.firstHit.push(hit && row.hitIn !== way ? 1 : 0);
    row.seenIn = way;
    if (hit) row.hitIn = way;
  }

  // Sets lookups, hits and packets of each row.
  tally(wayCount) {
    for (const row of this.rows) row.lookups = row.hits = row.inferred = row.packets = row.hitPackets = 0;
    const { way, id, hit, inferred, first, firstHit } = this.uses;
    for (let at = 0; at < way.length; at++) {
      const number = wayCount[way[at]];
      if (!number) continue;
      const row = this.rows[id[at]];
      row.lookups += number;
      if (hit[at]) row.hits += number;
      if (inferred[at]) row.inferred += number;
      if (first[at]) row.packets += number;
      if (firstHit[at]) row.hitPackets += number;
    }
  }

  waysOf(id, total, hitsOnly = false) {
    const mask = new Uint8Array(total);
    this.uses.id.forEach((other, at) => {
      if (other === id && (!hitsOnly || this.uses.hit[at])) mask[this.uses.way[at]] = 1;
    });
    return mask;
  }
}

function numberOrText(text) {
  return text !== '' && /^-?\d+$/.test(text) ? Number(text) : text;
}

class Model {
  constructor(data) {
    this.data = withSteps(data);
    const columns = data.columns;
    this.paths = columns.packet ? columns.packet.length : 0;
    this.ways = columns.way_end.length;
    this.flows = columns.flow_src.length;
    this.hops = [];
    this.nodes = [];
    this.wayVerdict = [];
    this.wayText = [];
    this.rules = new Entities();
    this.tables = new Entities();
    this.routes = new Entities();
    this.drops = new Entities();
    this.firstOfWay = new Int32Array(this.ways).fill(-1);
    for (let i = this.paths - 1; i >= 0; i--) this.firstOfWay[columns.way[i]] = i;
    for (let way = 0; way < this.ways; way++) this.addWay(way);
    this.flowText = new Array(this.flows);
    this.filters = [];
    this.span = 0;
    for (let i = 0; i < this.paths; i++) this.span = Math.max(this.span, columns.start[i]);
    for (const change of data.changes) this.span = Math.max(this.span, change.at);
  }

  addWay(way) {
    const hops = hopsOf(this.data, way);
    const nodes = nodesOf(hops);
    this.hops.push(hops);
    this.nodes.push(nodes);
    const drop = hops.find((hop) => hop.verdict === 'drop');
    const last = drop || hops.at(-1);
    this.wayVerdict.push(drop ? `drop: ${drop.reason || 'no reason known'}` : verdictText(last));
    this.wayText.push(hops.map((hop) => hop.netns).join(' → '));
    for (const hop of hops) {
      for (const made of hop.decisions) for (const step of made.lookups) this.addLookup(way, step);
      if (hop.verdict === 'drop') this.addDrop(way, hop);
    }
  }

  addLookup(way, step) {
    const netns = netnsName(step);
    const hit = step.result === 'hit';
    const inferred = step.evidence === 'inferred';
    const make = (more) => () => ({ netns, family: Number(step.family), ...more });
    const rule = { rule: numberOrText(step.rule || '?'), text: step.rule_text || '?', table: step.table };
    this.rules.use(way, this.rules.of(`${netns}\u0001${step.family}\u0001${step.rule}\u0001${step.rule_text}`, make(rule)), hit, inferred);
    const table = step.table || '-';
    this.tables.use(way, this.tables.of(`${netns}\u0001${step.family}\u0001${table}`, make({ table })), hit);
    if (!step.prefix && !step.dev && !step.gateway && !step.route_type) return;
    const route = { table, prefix: step.prefix || '?', gateway: step.gateway, dev: step.dev, type: step.route_type, result: step.result };
    this.routes.use(way, this.routes.of([netns, step.family, ...Object.values(route)].join('\u0001'), make(route)), hit, inferred);
  }

  addDrop(way, hop) {
    const row = { netns: hop.netns, reason: hop.reason || 'no reason known', inDev: hop.inDev, origin: hop.inDev ? '' : hop.comm };
    this.drops.use(way, this.drops.of(Object.values(row).join('\u0001'), () => row), true);
  }

  textOfFlow(flow) {
    if (this.flowText[flow] === undefined) this.flowText[flow] = flowName(this, flow);
    return this.flowText[flow];
  }

  // -- selection ---------------------------------------------------------------------------------------------------

  select() {
    const columns = this.data.columns;
    const chosen = new Int32Array(this.paths);
    const tests = this.filters.map((filter) => filter.test);
    this.wayCount = new Uint32Array(this.ways);
    this.flowCount = new Uint32Array(this.flows);
    this.flowDrops = new Uint32Array(this.flows);
    let size = 0;
    this.dropped = 0;
    this.incomplete = 0;
    for (let i = 0; i < this.paths; i++) {
      if (!tests.every((test) => test(i))) continue;
      chosen[size++] = i;
      this.wayCount[columns.way[i]]++;
      this.flowCount[columns.flow[i]]++;
      if (columns.flags[i] & DROPPED) {
        this.dropped++;
        this.flowDrops[columns.flow[i]]++;
      }
      if (!(columns.flags[i] & COMPLETE)) this.incomplete++;
    }
    this.chosen = chosen.subarray(0, size);
    for (const entities of [this.rules, this.tables, this.routes, this.drops]) entities.tally(this.wayCount);
  }

  byWays(mask) {
    const way = this.data.columns.way;
    return (i) => mask[way[i]] === 1;
  }

  waysWithNodes(keys) {
    return Uint8Array.from(this.nodes, (nodes) => (keys.every((key) => nodes.some((node) => node.key === key)) ? 1 : 0));
  }

  // Paths whose flow, way, verdict or number holds every one of the words.
  byWords(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const columns = this.data.columns;
    const masks = words.map((word) => ({
      word,
      way: Uint8Array.from(this.wayText, (way, at) => (`${way} ${this.wayVerdict[at]}`.toLowerCase().includes(word) ? 1 : 0)),
      flow: Uint8Array.from({ length: this.flows }, (_, flow) => (this.textOfFlow(flow).toLowerCase().includes(word) ? 1 : 0)),
    }));
    return (i) => masks.every(({ word, way, flow }) => way[columns.way[i]] || flow[columns.flow[i]]
      || word === `#${columns.packet[i]}` || this.noteOf(i).toLowerCase().includes(word));
  }

  noteOf(i) {
    const { flags, lost, info, mark } = this.data.columns;
    const said = [];
    if (info[i]) said.push(this.data.strings[info[i]]);
    if (mark[i]) said.push(`mark ${mark[i]}`);
    if (!(flags[i] & COMPLETE)) said.push('incomplete');
    if (lost[i]) said.push(`${lost[i]} lost`);
    return said.join(', ');
  }
}

function verdictText(hop) {
  if (!hop || !hop.verdict) return 'end not seen';
  const to = hop.verdict === 'deliver' ? hop.comm : hop.outDev;
  return to ? `${hop.verdict} → ${to}` : hop.verdict;
}

function endpoint(address, port) {
  if (port < 0) return address || '?';
  return address.includes(':') ? `[${address}]:${port}` : `${address || '?'}:${port}`;
}

function flowEnds(model, flow) {
  const { flow_src: src, flow_dst: dst, flow_sport: sport, flow_dport: dport } = model.data.columns;
  const strings = model.data.strings;
  return [endpoint(strings[src[flow]], sport[flow]), endpoint(strings[dst[flow]], dport[flow])];
}

function flowName(model, flow) {
  return `${flowEnds(model, flow).join(' → ')} ${model.data.strings[model.data.columns.flow_proto[flow]]}`;
}
