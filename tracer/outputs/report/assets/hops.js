// What a way is: its hops, each with its decisions; and the nodes of the picture that it goes through.

const VERDICTS = ['send', 'forward', 'deliver', 'drop'];

function hopsOf(data, way) {
  const end = data.columns.way_end[way];
  const hops = [];
  let hop = null;
  let number = '';
  for (let at = way ? data.columns.way_end[way - 1] : 0; at < end; at++) {
    const step = data.stepOf(data.columns.way_steps[at]);
    const over = hop && (hop.verdict || hop.over);
    if (!hop || step.hop !== number || over || step.event === 'receive') {
      hop = { netns: netnsName(step), role: step.role, decisions: [], handed: [], inDev: '', outDev: '',
        verdict: '', reason: '', comm: '', over: false };
      hops.push(hop);
      number = step.hop;
    }
    addStep(hop, step);
  }
  return hops;
}

function netnsName(step) {
  return step.netns || (step.netns_inode ? `netns:${step.netns_inode}` : '?');
}

function addStep(hop, step) {
  if (step.in_dev) hop.inDev = step.in_dev;
  if (step.event === 'lookup' || step.event === 'decision') {
    let made = hop.decisions.at(-1);
    if (!made || made.number !== step.decision || made.own) {
      made = { number: step.decision, purpose: step.purpose, lookups: [], own: null };
      hop.decisions.push(made);
    }
    if (step.event === 'lookup') made.lookups.push(step);
    else made.own = step;
  } else if (step.event === 'send' && !step.verdict) {
    hop.handed.push(step.out_dev);
  } else if (VERDICTS.includes(step.event)) {
    Object.assign(hop, { verdict: step.verdict || step.event, outDev: step.out_dev, reason: step.reason, comm: step.comm, over: true });
  }
}

// The decision that the picture shows: the packet's own, or the source check that dropped it.
function shownDecision(hop) {
  if (hop.verdict === 'drop' && hop.reason.startsWith('source check failed')) {
    const check = hop.decisions.findLast((made) => made.purpose === 'source-check');
    if (check) return check;
  }
  const outer = (made) => made.own && /(outer header|\(route of the tunnel\))$/.test(made.own.reason);
  const own = hop.decisions.filter((made) => (made.purpose === 'input' || made.purpose === 'output') && !outer(made));
  return own.findLast((made) => made.lookups.length) || own.at(-1) || hop.decisions.at(-1) || null;
}

function inNode(hop) {
  if (hop.inDev) return { kind: 'device', label: hop.inDev };
  const sent = hop.decisions.some((made) => made.purpose === 'output') || hop.role === 'client' || hop.role === 'local';
  if (!sent) return { kind: 'open', label: 'start not seen' };
  return { kind: 'socket', label: (hop.verdict !== 'deliver' && hop.comm) || 'sent here' };
}

function decisionNodes(made) {
  if (!made) return [];
  const check = made.purpose === 'source-check' ? 'source check: ' : '';
  const last = made.lookups.at(-1);
  if (!last) {
    const why = (made.own && made.own.reason) || 'no lookup seen';
    return [{ kind: 'cached', label: 'no lookup', more: why.replace(/^no lookup: /, '').replace(/ #/, ' another') }];
  }
  const rule = { kind: 'rule', label: `rule ${last.evidence === 'inferred' ? '~' : ''}${last.rule || '?'}`, more: `${check}${last.rule_text || '?'}` };
  if (!last.table && last.result !== 'hit') return [{ ...rule, label: `${rule.label}: ${last.result || '?'}` }];
  return [rule, { kind: 'table', label: last.table || '?', more: last.result === 'hit' ? '' : last.result || '?' }];
}

function outNode(hop) {
  if (hop.verdict === 'drop') return { kind: 'drop', label: 'drop', more: hop.reason || 'no reason known' };
  if (hop.verdict === 'deliver') return { kind: 'socket', label: hop.comm || 'delivered' };
  if (!hop.verdict) return { kind: 'open', label: 'end not seen' };
  return { kind: 'device', label: [...hop.handed, hop.outDev].filter(Boolean).join(' → ') || '?' };
}

// Nodes of a way in order; `column` is 0 to 3 inside a hop, `depth` the number of the hop.
function nodesOf(hops) {
  const nodes = [];
  hops.forEach((hop, depth) => {
    const put = (node, column) => {
      const key = [depth, hop.netns, column, node.kind, node.label, node.more || ''].join('\u0001');
      nodes.push({ more: '', ...node, depth, column, netns: hop.netns, key });
    };
    put(inNode(hop), 0);
    decisionNodes(shownDecision(hop)).forEach((node, index) => put(node, index + 1));
    put(outNode(hop), 3);
  });
  return nodes;
}
