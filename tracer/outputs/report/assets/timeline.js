// Packets and drops over time, and when the configuration changed; a part of the time can be selected.

const LANES = [{ top: 4, height: 70, name: 'packets' }, { top: 86, height: 34, name: 'drops' }];
const AXIS = 142;
const LEFT = 64;
const RIGHT = 14;

class Timeline {
  constructor(parent, model, choose, openChange) {
    Object.assign(this, { parent, model, choose, openChange, range: null });
    new ResizeObserver(() => this.show()).observe(parent);
  }

  show() {
    const width = this.parent.clientWidth;
    if (!width || !this.model.chosen) return;
    this.width = width;
    this.bins = Math.max(20, Math.min(240, Math.floor((width - LEFT - RIGHT) / 5)));
    this.step = Math.max(this.model.span, 1) / this.bins;
    this.parent.replaceChildren();
    const svg = draw(this.parent, 'svg', { viewBox: `0 0 ${width} ${AXIS + 4}`, role: 'img', 'aria-label': this.summary() });
    this.drawLanes(svg);
    this.drawAxis(svg);
    this.drawChanges(svg);
    this.drawRange(svg);
    svg.addEventListener('pointerdown', (event) => this.drag(svg, event));
  }

  summary() {
    const { model } = this;
    return `${plural(model.chosen.length, 'packet')} and ${plural(model.dropped, 'drop')} over ${seconds(model.span)} seconds`;
  }

  counts(dropsOnly, chosen) {
    const { start, flags } = this.model.data.columns;
    const bins = new Float64Array(this.bins);
    const take = (i) => {
      if (!dropsOnly || flags[i] & DROPPED) bins[Math.min(this.bins - 1, Math.floor(start[i] / this.step))] += 1;
    };
    if (chosen) chosen.forEach(take);
    else for (let i = 0; i < this.model.paths; i++) take(i);
    return bins;
  }

  drawLanes(svg) {
    LANES.forEach(({ top, height, name }, lane) => {
      const all = this.counts(lane === 1, null);
      const chosen = this.counts(lane === 1, this.model.chosen);
      const most = Math.max(1, ...all);
      draw(svg, 'line', { class: 'axis', x1: LEFT, x2: this.width - RIGHT, y1: top + height, y2: top + height });
      draw(svg, 'text', { class: 'label', x: LEFT - 8, y: top + 11 }, all.some(Boolean) ? count(most) : '0');
      draw(svg, 'text', { class: 'label', x: LEFT - 8, y: top + height }, name);
      const wide = (this.width - LEFT - RIGHT) / this.bins;
      for (const [bins, kind] of [[all, 'rest'], [chosen, lane ? 'drops' : 'packets']]) {
        bins.forEach((number, bin) => {
          if (!number) return;
          const tall = Math.max(1.5, (height * number) / most);
          draw(svg, 'rect', { class: `bar-${kind}`, x: LEFT + bin * wide, y: top + height - tall, width: Math.max(1, wide - 1), height: tall });
        });
      }
    });
  }

  drawAxis(svg) {
    const parts = Math.max(2, Math.min(8, Math.floor(this.width / 150)));
    for (let at = 0; at <= parts; at++) {
      const ns = (this.model.span * at) / parts;
      const anchor = at === 0 ? 'start' : at === parts ? 'end' : 'middle';
      draw(svg, 'text', { class: 'tick', x: this.x(ns), y: AXIS - 4, 'text-anchor': anchor }, duration(ns));
    }
  }

  drawChanges(svg) {
    for (const change of this.model.data.changes) {
      const x = this.x(Math.max(0, change.at));
      const mark = draw(svg, 'g', { class: 'change', tabindex: '0', role: 'button', 'aria-label': `change: ${change.text}` });
      draw(mark, 'line', { x1: x, x2: x, y1: 0, y2: AXIS - 18 });
      draw(mark, 'path', { d: `M${x - 5} 0 h10 l-5 8 z` });
      draw(mark, 'title', {}, `${seconds(change.at)} s  ${change.netns}  ${change.text}`);
      const open = () => this.openChange(change);
      mark.addEventListener('click', open);
      mark.addEventListener('keydown', (event) => event.key === 'Enter' && open());
    }
  }

  drawRange(svg) {
    this.shade = draw(svg, 'rect', { class: 'range', x: 0, y: 0, width: 0, height: AXIS - 18 });
    if (this.range) this.setShade(this.x(this.range[0]), this.x(this.range[1]));
  }

  setShade(a, b) {
    this.shade.setAttribute('x', Math.min(a, b));
    this.shade.setAttribute('width', Math.max(1, Math.abs(b - a)));
  }

  x(ns) {
    return LEFT + ((this.width - LEFT - RIGHT) * ns) / Math.max(this.model.span, 1);
  }

  ns(x) {
    const share = (x - LEFT) / (this.width - LEFT - RIGHT);
    return Math.max(0, Math.min(1, share)) * this.model.span;
  }

  drag(svg, down) {
    if (down.target.closest('.change')) return;
    const at = (event) => event.clientX - svg.getBoundingClientRect().left;
    const from = at(down);
    const move = (event) => this.setShade(from, at(event));
    const up = (event) => {
      window.removeEventListener('pointermove', move);
      const ends = [this.ns(from), this.ns(at(event))].sort((a, b) => a - b);
      if (Math.abs(at(event) - from) > 3) this.choose(ends);
      else this.show();
    };
    window.addEventListener('pointermove', move);
    window.addEventListener('pointerup', up, { once: true });
    down.preventDefault();
  }
}
