// The picture: the hops from left to right, in each the network namespaces as boxes, in them what the packets go through.

const COLUMN_WIDTHS = [78, 134, 80, 98];
const COLUMN_GAP = 20;
const DEPTH_GAP = 32;
const NODE_GAP = 9;
const BOX_HEAD = 22;
const BOX_PAD = 10;
const TALL = 230;
const MOST_PER_PACKET = 7;
const MOST_NODES = 12;
const MOST_BOXES = 10;
const MOST_DEPTHS = 10;
const HOP_WIDTH = COLUMN_WIDTHS.reduce((sum, width) => sum + width, 0) + 3 * COLUMN_GAP + 2 * BOX_PAD;

class Picture {
  constructor(parent, model, choose) {
    Object.assign(this, { parent, model, choose, marked: -1 });
  }

  show() {
    const { model } = this;
    this.gather();
    this.parent.replaceChildren();
    if (!this.nodes.size) {
      add(this.parent, 'p', { class: 'dim' }, 'No packets are selected.');
      return;
    }
    this.place();
    const width = this.depths.length * (HOP_WIDTH + DEPTH_GAP) - DEPTH_GAP;
    const svg = draw(this.parent, 'svg', { viewBox: `0 0 ${width} ${this.height}`, role: 'group',
      'aria-label': `Paths of ${plural(model.chosen.length, 'packet')}` });
    svg.style.maxWidth = `${width * 1.15}px`;
    svg.style.minWidth = `${width * 0.68}px`;
    for (const box of this.boxes) this.drawBox(svg, box);
    for (const link of this.links.values()) this.drawLink(svg, link);
    for (const node of this.nodes.values()) this.drawNode(svg, node);
    this.mark(this.marked);
    if (this.cut) add(this.parent, 'p', { class: 'dim' }, `Only the first ${MOST_DEPTHS} hops are drawn.`);
  }

  // Nodes and links with the numbers of packets of the selection; small ones that do not fit become one.
  gather() {
    const { model } = this;
    this.nodes = new Map();
    this.links = new Map();
    this.cut = false;
    const counts = this.countNodes();
    const stand = this.standIns(counts);
    this.drawn = new Map();
    for (let way = 0; way < model.ways; way++) {
      const number = model.wayCount[way];
      if (!number) continue;
      const drops = model.wayVerdict[way].startsWith('drop') ? number : 0;
      let before = null;
      for (const real of model.nodes[way]) {
        if (real.depth >= MOST_DEPTHS) { this.cut = true; break; }
        const key = stand.get(real.key) || real.key;
        const node = this.nodeOf(key, real);
        if (node === before) continue;
        node.count += number;
        node.drops += drops;
        node.keys.add(real.key);
        if (before) this.link(before, node, number, drops);
        before = node;
      }
    }
  }

  countNodes() {
    const counts = new Map();
    this.model.nodes.forEach((nodes, way) => {
      const number = this.model.wayCount[way];
      if (number) for (const node of nodes) {
        const known = counts.get(node.key) || { node, number: 0 };
        known.number += number;
        counts.set(node.key, known);
      }
    });
    return counts;
  }

  // Which nodes are drawn as "others": the smallest of a column, and all of the smallest namespaces of a hop.
  standIns(counts) {
    const stand = new Map();
    const byDepth = group([...counts.values()], ({ node }) => node.depth);
    for (const [depth, found] of byDepth) {
      const spaces = [...group(found, ({ node }) => node.netns)];
      const size = ([, members]) => largest(members.map((member) => member.number));
      spaces.sort((a, b) => size(b) - size(a));
      spaces.forEach(([netns, members], at) => {
        const column = (member) => `${member.node.column}`;
        if (at >= MOST_BOXES && spaces.length > MOST_BOXES + 1) {
          for (const member of members) stand.set(member.node.key, `${depth}\u0001other namespaces\u0001${column(member)}`);
          return;
        }
        for (const [where, inColumn] of group(members, column)) {
          inColumn.sort((a, b) => (b.node.kind === 'drop') - (a.node.kind === 'drop') || b.number - a.number);
          if (inColumn.length <= MOST_NODES + 1) continue;
          for (const member of inColumn.slice(MOST_NODES)) stand.set(member.node.key, `${depth}\u0001${netns}\u0001${where}\u0001others`);
        }
      });
    }
    return stand;
  }

  nodeOf(key, real) {
    let node = this.nodes.get(key);
    if (!node) {
      node = { ...real, count: 0, drops: 0, into: [], out: [], keys: new Set(), other: key !== real.key };
      if (node.other) Object.assign(node, { label: 'others', more: '', kind: 'other', netns: key.includes('\u0001other namespaces\u0001') ? 'other namespaces' : real.netns });
      this.nodes.set(key, node);
    }
    return node;
  }

  link(from, to, number, drops) {
    const key = `${from.key}\u0002${to.key}`;
    let link = this.links.get(key);
    if (!link) {
      link = { from, to, count: 0, drops: 0 };
      this.links.set(key, link);
      from.out.push(link);
      to.into.push(link);
    }
    link.count += number;
    link.drops += drops;
  }

  // -- where everything stands -------------------------------------------------------------------------------------

  place() {
    this.depths = [...group([...this.nodes.values()], (node) => node.depth)].sort((a, b) => a[0] - b[0]);
    const most = largest(this.depths.map(([, nodes]) => nodes.filter((node) => node.column === 3).reduce((sum, node) => sum + node.count, 0)));
    const fullest = largest(this.depths.map(([, nodes]) => largest([0, 1, 2, 3].map((column) => nodes.filter((node) => node.column === column).length))));
    this.scale = Math.min(Math.min(TALL, 60 * fullest) / Math.max(most, 1), MOST_PER_PACKET);
    this.boxes = [];
    this.height = 0;
    const middle = (node) => mean(node.into.map((link) => [link.from.y + link.from.h / 2, link.count]));
    this.depths.forEach(([, nodes], depth) => {
      const x = depth * (HOP_WIDTH + DEPTH_GAP);
      const spaces = [...group(nodes, (node) => node.netns)].map(([netns, members]) => {
        const ins = members.filter((node) => node.column === 0 && node.into.length);
        const share = members.reduce((sum, node) => sum + (node.column === 3 ? node.count : 0), 0);
        return { netns, members, order: depth && ins.length ? mean(ins.map((node) => [middle(node), node.count])) : -share, share };
      });
      spaces.sort((a, b) => a.order - b.order);
      let y = 0;
      for (const space of spaces) y = this.placeBox(space, x, y, middle) + 16;
      this.height = Math.max(this.height, y - 16);
    });
    this.levelBoxes();
    for (const node of this.nodes.values()) this.placeLinks(node);
  }

  placeBox(space, x, y, middle) {
    const columns = [0, 1, 2, 3].map((column) => space.members.filter((node) => node.column === column));
    const heights = columns.map((nodes) => nodes.reduce((sum, node) => sum + this.heightOf(node) + NODE_GAP, -NODE_GAP));
    const tallest = Math.max(...heights);
    let left = x + BOX_PAD;
    columns.forEach((nodes, column) => {
      let top = y + BOX_HEAD + (tallest - Math.max(heights[column], 0)) / 2;
      const order = new Map(nodes.map((node) => [node, node.into.length ? middle(node) : -node.count]));
      nodes.sort((a, b) => order.get(a) - order.get(b));
      for (const node of nodes) {
        Object.assign(node, { x: left, y: top, w: COLUMN_WIDTHS[column], h: this.heightOf(node) });
        top += node.h + NODE_GAP;
      }
      left += COLUMN_WIDTHS[column] + COLUMN_GAP;
    });
    this.boxes.push({ x, y, w: HOP_WIDTH, h: BOX_HEAD + tallest + BOX_PAD, netns: space.netns, said: plural(space.share, 'packet'), members: space.members });
    return y + BOX_HEAD + tallest + BOX_PAD;
  }

  heightOf(node) {
    return Math.max(node.more ? 34 : 22, this.scale * node.count);
  }

  // Shorter hops stand in the middle of the tallest.
  levelBoxes() {
    for (const [, nodes] of this.depths) {
      const boxes = this.boxes.filter((box) => box.members[0].depth === nodes[0].depth);
      const shift = (this.height - Math.max(...boxes.map((box) => box.y + box.h))) / 2;
      for (const box of boxes) box.y += shift;
      for (const node of nodes) node.y += shift;
    }
  }

  placeLinks(node) {
    for (const [links, end, other] of [[node.into, 'y1', 'from'], [node.out, 'y0', 'to']]) {
      links.sort((a, b) => a[other].y - b[other].y);
      const total = links.reduce((sum, link) => sum + this.thickness(link), 0);
      let y = node.y + (node.h - total) / 2;
      for (const link of links) {
        link[end] = y + this.thickness(link) / 2;
        y += this.thickness(link);
      }
    }
  }

  thickness(link) {
    return Math.max(1.4, this.scale * link.count);
  }

  // -- drawing -----------------------------------------------------------------------------------------------------

  drawBox(svg, box) {
    draw(svg, 'rect', { class: 'box', x: box.x, y: box.y, width: box.w, height: box.h, rx: 8 });
    const text = draw(svg, 'text', { class: 'box-name', x: box.x + BOX_PAD, y: box.y + 15 }, fit(box.netns, 300));
    draw(text, 'tspan', { class: 'box-role', dx: 8 }, box.said);
  }

  drawLink(svg, link) {
    const [x0, x1] = [link.from.x + link.from.w, link.to.x];
    const bend = Math.max(18, (x1 - x0) / 2);
    const path = `M${x0} ${link.y0} C${x0 + bend} ${link.y0} ${x1 - bend} ${link.y1} ${x1} ${link.y1}`;
    const element = draw(svg, 'g', { class: 'link' });
    const wide = this.thickness(link);
    draw(element, 'path', { d: path, 'stroke-width': wide });
    if (link.drops) draw(element, 'path', { class: 'dropped', d: path, 'stroke-width': Math.max(1.4, (wide * link.drops) / link.count) });
    draw(element, 'title', {}, `${link.from.label} → ${link.to.label}: ${plural(link.count, 'packet')}${link.drops ? `, ${count(link.drops)} dropped in the end` : ''}`);
    element.addEventListener('click', () => this.choose([link.from, link.to]));
    link.element = element;
  }

  drawNode(svg, node) {
    const name = `${node.label}${node.more ? `, ${node.more}` : ''}`;
    const said = `${node.kind} ${name} in ${node.netns}: ${plural(node.count, 'packet')}${node.drops ? `, ${count(node.drops)} dropped in the end` : ''}`;
    const element = draw(svg, 'g', { class: `node k-${node.kind}`, tabindex: '0', role: 'button', 'aria-label': said });
    draw(element, 'rect', { x: node.x, y: node.y, width: node.w, height: node.h, rx: 4 });
    const y = node.y + node.h / 2;
    draw(element, 'text', { x: node.x + 7, y: node.more ? y - 3 : y + 4 }, fit(node.label, node.w - 12));
    if (node.more) draw(element, 'text', { class: 'more', x: node.x + 7, y: y + 11 }, fit(node.more, node.w - 10, 5.4));
    draw(element, 'title', {}, `${name}\n${plural(node.count, 'packet')}${node.drops ? `, ${count(node.drops)} dropped in the end` : ''}`);
    const choose = () => this.choose([node]);
    element.addEventListener('click', choose);
    element.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      choose();
    });
    node.element = element;
  }

  // Shows where one way goes; -1 is none.
  mark(way) {
    this.marked = way;
    const keys = new Set(way < 0 ? [] : this.model.nodes[way].map((node) => node.key));
    const on = (node) => [...node.keys].some((key) => keys.has(key));
    this.parent.classList.toggle('marking', way >= 0);
    for (const node of this.nodes.values()) node.element.classList.toggle('on', on(node));
    for (const link of this.links.values()) link.element.classList.toggle('on', on(link.from) && on(link.to));
  }
}

function group(values, key) {
  const groups = new Map();
  for (const value of values) {
    const name = key(value);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(value);
  }
  return groups;
}

function largest(numbers) {
  return numbers.reduce((most, number) => Math.max(most, number), 0);
}

function mean(pairs) {
  let [sum, weight] = [0, 0];
  for (const [value, by] of pairs) {
    sum += value * by;
    weight += by;
  }
  return weight ? sum / weight : 0;
}

function fit(text, width, letter = 6.5) {
  const most = Math.max(3, Math.floor(width / letter));
  const letters = [...text.replace(/\s+/g, ' ')];
  return letters.length <= most ? letters.join('') : `${letters.slice(0, most - 1).join('')}…`;
}
