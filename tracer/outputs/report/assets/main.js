// Puts the page together: what is selected is kept here, and every part shows it.

class Page {
  constructor(model) {
    this.model = model;
    this.views = viewsOf(model);
    this.view = this.views[0];
    this.words = {};
    this.sorts = {};
    this.path = -1;
    const at = (id) => document.getElementById(id);
    this.at = at;
    this.picture = new Picture(at('picture'), model, (nodes) => this.chooseNodes(nodes));
    this.timeline = new Timeline(at('timeline'), model, ([from, to]) => this.select(from, to), (change) => this.showChange(change));
    this.listen();
    this.update();
  }

  listen() {
    const { at } = this;
    at('find').addEventListener('input', () => {
      this.words[this.view.name] = at('find').value;
      this.fill();
    });
    at('find').addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && this.view.name === 'Paths' && at('find').value.trim()) this.applyWords();
    });
    at('range').addEventListener('submit', (event) => {
      event.preventDefault();
      this.typedRange();
    });
    at('close').addEventListener('click', () => this.closePath());
    at('before').addEventListener('click', () => this.step(-1));
    at('after').addEventListener('click', () => this.step(1));
    at('same-way').addEventListener('click', () => this.sameWay());
    at('same-flow').addEventListener('click', () => this.sameFlow());
    at('copy').addEventListener('click', () => this.copy());
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.path >= 0) this.closePath();
      if (event.key === '/' && !/input|textarea/i.test(event.target.tagName)) {
        event.preventDefault();
        at('find').focus();
      }
    });
    window.addEventListener('beforeprint', () => this.grid.printed(true));
    window.addEventListener('afterprint', () => this.grid.printed(false));
  }

  // -- selecting ---------------------------------------------------------------------------------------------------

  filter(filter) {
    if (!this.model.filters.some((other) => other.label === filter.label)) this.model.filters.push(filter);
    this.update();
  }

  chooseNodes(nodes) {
    const { model } = this;
    const masks = nodes.map((node) => [...node.keys].map((key) => model.waysWithNodes([key])));
    const mask = new Uint8Array(model.ways).map((_, way) => (masks.every((any) => any.some((one) => one[way])) ? 1 : 0));
    const label = nodes.map((node) => `${node.label}${node.more ? ` (${node.more})` : ''} in ${node.netns}`).join(' → ');
    this.filter({ label, test: model.byWays(mask) });
  }

  select(from, to) {
    const { start } = this.model.data.columns;
    this.model.filters = this.model.filters.filter((filter) => !filter.time);
    this.timeline.range = [from, to];
    this.filter({ label: `${seconds(from)} s to ${seconds(to)} s`, time: true, test: (i) => start[i] >= from && start[i] <= to });
  }

  typedRange() {
    const typed = (id, none) => (this.at(id).value.trim() === '' ? none : Number(this.at(id).value) * 1e9);
    const [from, to] = [typed('from', 0), typed('to', this.model.span)];
    const wrong = !(from <= to);
    for (const id of ['from', 'to']) this.at(id).setAttribute('aria-invalid', String(wrong));
    if (!wrong) this.select(from, to);
  }

  applyWords() {
    const words = this.at('find').value.trim();
    this.words.Paths = '';
    this.filter({ label: `"${words}"`, test: this.model.byWords(words) });
  }

  sameWay() {
    const way = this.model.data.columns.way[this.path];
    const { columns } = this.model.data;
    this.filter({ label: `same way as #${columns.packet[this.path]}`, test: (i) => columns.way[i] === way });
  }

  sameFlow() {
    const { columns } = this.model.data;
    const flow = columns.flow[this.path];
    this.filter({ label: `flow ${this.model.textOfFlow(flow)}`, test: (i) => columns.flow[i] === flow });
  }

  showChange(change) {
    this.show(this.views.at(-1));
    this.grid.mark(change);
  }

  // -- showing -----------------------------------------------------------------------------------------------------

  update() {
    this.model.select();
    if (!this.model.filters.some((filter) => filter.time)) this.timeline.range = null;
    this.showFilters();
    this.picture.show();
    this.timeline.show();
    this.show(this.view);
  }

  showFilters() {
    const { model } = this;
    const box = this.at('filters');
    const focused = box.contains(document.activeElement);
    box.replaceChildren();
    const said = `${plural(model.chosen.length, 'packet')}${model.filters.length ? ' selected' : ''}, ${count(model.dropped)} dropped`;
    add(box, 'strong', { id: 'chosen' }, said);
    for (const filter of model.filters) {
      const chip = add(box, 'button', { type: 'button', class: 'chip', 'aria-label': `Do not select by ${filter.label}` });
      add(chip, 'span', {}, filter.label);
      add(chip, 'span', { 'aria-hidden': 'true' }, '×');
      chip.addEventListener('click', () => {
        model.filters = model.filters.filter((other) => other !== filter);
        this.update();
      });
    }
    if (model.filters.length) {
      add(box, 'button', { type: 'button', class: 'quiet', id: 'all' }, 'Select all').addEventListener('click', () => {
        model.filters = [];
        this.update();
      });
    } else {
      add(box, 'span', { class: 'dim' }, 'Select by a click on the picture, on a row of a table, or by dragging over a part of the time.');
    }
    if (focused) (box.querySelector('.chip') || this.at('find')).focus();
  }

  show(view) {
    if (this.grid) {
      this.sorts[this.view.name] = this.grid.sort;
      this.grid.remove();
    }
    this.view = view;
    this.showTabs();
    this.at('find').value = this.words[view.name] || '';
    this.grid = new Grid(this.at('grid'), view.name, view.columns, (row) => view.open(row, this));
    if (this.sorts[view.name]) this.grid.sort = this.sorts[view.name];
    else if (view.columns.some((column) => column.bar)) this.grid.sort = { column: view.columns.findIndex((column) => column.bar), down: true };
    this.fill();
  }

  showTabs() {
    const tabs = this.at('tabs');
    const focused = tabs.contains(document.activeElement);
    tabs.replaceChildren();
    this.views.forEach((view, at) => {
      const on = view === this.view;
      const tab = add(tabs, 'button', { type: 'button', role: 'tab', id: `tab-${view.name}`, 'aria-selected': String(on), 'aria-controls': 'grid', tabindex: on ? '0' : '-1' });
      add(tab, 'span', {}, view.name);
      add(tab, 'span', { class: 'amount' }, count(view.rows().length));
      tab.addEventListener('click', () => this.show(view));
      tab.addEventListener('keydown', (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) this.show(this.views.at((at + step) % this.views.length));
      });
      if (on && focused) tab.focus();
    });
    this.at('grid').setAttribute('aria-labelledby', `tab-${this.view.name}`);
  }

  fill() {
    const rows = this.view.rows();
    const words = (this.words[this.view.name] || '').trim();
    const shown = words ? rows.filter(this.view.test(words)) : rows;
    this.view.prepare(shown);
    const hint = words && this.view.name === 'Paths' ? '. Enter selects them in the whole page.' : '';
    this.at('said').textContent = words ? `${count(shown.length)} of ${plural(rows.length, 'row')}${hint}` : '';
    this.grid.show(shown);
    if (this.view.name === 'Paths' && this.path >= 0) this.grid.mark(this.path);
  }

  // -- one path ----------------------------------------------------------------------------------------------------

  openPath(i) {
    const { model, at } = this;
    const opened = this.path < 0;
    this.path = i;
    at('detail').hidden = false;
    document.body.classList.add('open');
    at('detail-title').textContent = `Path #${model.data.columns.packet[i]}`;
    const note = noteOfTree(model, i);
    at('detail-note').textContent = note;
    at('detail-note').hidden = !note;
    at('legend').hidden = !inferredIn(model, i);
    if (model.data.columns.tree[i] >= 0) paintTree(at('tree'), model, i);
    else at('tree').textContent = '';
    this.picture.mark(model.data.columns.way[i]);
    if (this.view.name === 'Paths') this.grid.mark(i);
    if (opened) at('detail-title').focus();
    const row = this.grid.frame.querySelector('.marked');
    if (row) row.scrollIntoView({ block: 'nearest' });
  }

  step(by) {
    const order = this.view.name === 'Paths' ? this.grid.order : [...this.model.chosen];
    const next = order[order.indexOf(this.path) + by];
    if (next !== undefined) this.openPath(next);
  }

  closePath() {
    this.path = -1;
    this.at('detail').hidden = true;
    document.body.classList.remove('open');
    this.picture.mark(-1);
    if (this.view.name === 'Paths') this.grid.mark(null);
    this.grid.frame.focus({ preventScroll: true });
  }

  async copy() {
    const done = await navigator.clipboard.writeText(treeText(this.model, this.path)).then(() => true, () => false);
    if (!done) window.getSelection().selectAllChildren(this.at('tree'));
    this.at('copy').textContent = done ? 'Copied' : 'Selected';
  }
}

// -- the top of the page -------------------------------------------------------------------------------------------

function showHead(data) {
  const { meta } = data;
  const figures = document.getElementById('figures');
  const wrong = (number) => (number ? 'bad' : '');
  const span = data.columns.start && data.columns.start.length ? data.columns.start.reduce((a, b) => Math.max(a, b), 0) : 0;
  for (const [value, name, tone] of [
    [count(meta.paths), meta.paths === 1 ? 'packet' : 'packets', ''],
    [count(meta.dropped), 'dropped', wrong(meta.dropped)],
    [count(meta.incomplete), 'incomplete', meta.incomplete ? 'warn' : ''],
    [count(meta.lost), meta.lost === 1 ? 'record lost' : 'records lost', wrong(meta.lost)],
    [duration(span), 'from first to last', ''],
  ]) {
    const item = add(figures, 'li', { class: tone });
    add(item, 'strong', {}, value);
    add(item, 'span', {}, name);
  }
  if (meta.paths) {
    const began = new Date(Number(BigInt(meta.start_ns) / 1000000n));
    document.getElementById('when').textContent = `${began.toISOString().replace('T', ' ').replace('Z', ' UTC')}, the first packet${meta.version ? `; written by fibtrace ${meta.version}` : ''}`;
  }
}

function showNotices(meta) {
  const said = [];
  if (meta.listed < meta.paths) {
    said.push(`This page holds a sample: ${count(meta.listed)} of ${count(meta.paths)} packets, those that were dropped or are incomplete first, the others evenly spaced. The figures above are of all packets; everything below is of the sample.`);
  }
  if (meta.lost) said.push(`${plural(meta.lost, 'record')} of the trace ${meta.lost === 1 ? 'was' : 'were'} lost: paths may be missing or have holes.`);
  if (meta.cut_short) said.push('The end of the capture is missing.');
  if (meta.more_changes) said.push(`${plural(meta.more_changes, 'later change')} of the configuration ${meta.more_changes === 1 ? 'is' : 'are'} left out.`);
  if (!meta.paths) said.push('The capture holds no packets.');
  for (const one of said) add(document.getElementById('notices'), 'p', { class: 'notice' }, one);
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
}

async function start() {
  document.getElementById('theme').addEventListener('click', switchTheme);
  const data = await load();
  showHead(data);
  showNotices(data.meta);
  if (!data.meta.paths) return null;
  document.querySelector('main').hidden = false;
  return new Page(new Model(data));
}

window.fibtrace = { treeText };
window.fibtrace.ready = start().then((page) => {
  window.fibtrace.page = page;
  document.documentElement.dataset.ready = 'yes';
}, (error) => {
  const text = `This browser cannot show the page (${error.message}). It needs a Chromium, Firefox or Safari of 2023 or newer.`;
  add(document.getElementById('notices'), 'p', { class: 'notice' }, text);
  throw error;
});
