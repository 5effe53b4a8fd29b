// A table that shows only the rows in sight: sorted by its headers, filtered by words, walked through by keys.

const ROW_HEIGHT = 28;
const SPARE_ROWS = 8;
const PRINTED_ROWS = 200;

class Grid {
  // `columns`: {label, width, value(row) to sort by, text(row) to show, number, bar(row), tone(row)}
  constructor(parent, label, columns, open) {
    this.columns = columns;
    this.open = open;
    this.sort = { column: -1, down: false };
    this.current = 0;
    this.marked = null;
    this.frame = add(parent, 'div', { class: 'grid', role: 'grid', 'aria-label': label, tabindex: '0' });
    this.template = columns.map((column) => column.width).join(' ');
    this.head = add(this.frame, 'div', { class: 'head row', role: 'row' });
    this.head.style.gridTemplateColumns = this.template;
    columns.forEach((column, at) => this.addHeader(column, at));
    this.body = add(this.frame, 'div', { class: 'body', role: 'rowgroup' });
    this.frame.addEventListener('scroll', () => this.paint());
    this.frame.addEventListener('keydown', (event) => this.key(event));
    this.body.addEventListener('click', (event) => this.click(event));
    this.resized = new ResizeObserver(() => this.paint());
    this.resized.observe(this.frame);
  }

  addHeader(column, at) {
    const cell = add(this.head, 'div', { role: 'columnheader', class: column.number ? 'number' : '' });
    const button = add(cell, 'button', { type: 'button' }, column.label);
    button.addEventListener('click', () => {
      const first = Boolean(column.number) && column.down !== false;
      this.sort = { column: at, down: this.sort.column === at ? !this.sort.down : first };
      this.arrange();
    });
  }

  show(rows) {
    this.rows = rows;
    this.arrange();
  }

  arrange() {
    [...this.head.children].forEach((cell, at) => {
      const sorted = this.sort.column === at;
      cell.setAttribute('aria-sort', sorted ? (this.sort.down ? 'descending' : 'ascending') : 'none');
    });
    this.order = [...this.rows];
    const column = this.columns[this.sort.column];
    if (column) {
      const keys = new Map(this.order.map((row) => [row, column.value(row)]));
      const sign = this.sort.down ? -1 : 1;
      this.order.sort((a, b) => sign * compare(keys.get(a), keys.get(b)));
    }
    this.current = Math.min(this.current, Math.max(0, this.order.length - 1));
    this.frame.setAttribute('aria-rowcount', this.order.length + 1);
    this.body.style.height = `${this.order.length * ROW_HEIGHT}px`;
    this.paint();
  }

  paint() {
    const top = Math.max(0, Math.floor((this.frame.scrollTop - ROW_HEIGHT) / ROW_HEIGHT) - SPARE_ROWS);
    const seen = Math.ceil(this.frame.clientHeight / ROW_HEIGHT) + 2 * SPARE_ROWS;
    this.paintRows(top, Math.min(this.order.length, top + seen));
  }

  paintRows(from, to) {
    const painted = document.createDocumentFragment();
    for (let at = from; at < to; at++) this.paintRow(painted, at);
    this.body.replaceChildren(painted);
    const current = document.getElementById(`${this.body.id}row${this.current}`);
    this.frame.toggleAttribute('aria-activedescendant', false);
    if (current) this.frame.setAttribute('aria-activedescendant', current.id);
  }

  paintRow(parent, at) {
    const row = this.order[at];
    const marked = this.marked !== null && this.marked === row;
    const line = add(parent, 'div', { class: 'row', role: 'row', id: `row${at}`, 'aria-rowindex': at + 2 });
    line.classList.toggle('current', at === this.current);
    line.classList.toggle('marked', marked);
    if (marked) line.setAttribute('aria-selected', 'true');
    line.style.gridTemplateColumns = this.template;
    line.style.top = `${at * ROW_HEIGHT}px`;
    for (const column of this.columns) {
      const text = column.text(row);
      const cell = add(line, 'div', { role: 'gridcell', class: column.number ? 'number' : '', title: text }, text);
      const tone = column.tone && column.tone(row);
      if (tone) cell.classList.add(tone);
      if (column.bar) cell.style.backgroundSize = `${(100 * column.bar(row)).toFixed(1)}% 100%`;
      if (column.bar) cell.classList.add('share');
    }
  }

  click(event) {
    const line = event.target.closest('.row');
    if (!line) return;
    this.current = Number(line.id.slice(3));
    this.open(this.order[this.current]);
    this.paint();
  }

  key(event) {
    if (event.target.closest('.head')) return;
    const page = Math.max(1, Math.floor(this.frame.clientHeight / ROW_HEIGHT) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key === 'Enter' || event.key === ' ') {
      if (this.order.length) this.open(this.order[this.current]);
    } else if (event.key in steps) {
      this.go(this.current + steps[event.key]);
    } else {
      return;
    }
    event.preventDefault();
  }

  go(at) {
    this.current = Math.max(0, Math.min(this.order.length - 1, at));
    const top = this.current * ROW_HEIGHT;
    const height = this.frame.clientHeight - ROW_HEIGHT;
    if (top < this.frame.scrollTop) this.frame.scrollTop = top;
    if (top + ROW_HEIGHT > this.frame.scrollTop + height) this.frame.scrollTop = top + ROW_HEIGHT - height;
    this.paint();
  }

  mark(row) {
    this.marked = row;
    const at = this.order.indexOf(row);
    if (at >= 0) this.go(at);
    else this.paint();
  }

  // For paper: the first rows, however tall that is.
  printed(on) {
    if (!on) return this.arrange();
    const rows = Math.min(PRINTED_ROWS, this.order.length);
    this.body.style.height = `${rows * ROW_HEIGHT}px`;
    return this.paintRows(0, rows);
  }

  remove() {
    this.resized.disconnect();
    this.frame.remove();
  }
}

function compare(a, b) {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (typeof a !== typeof b) return typeof a === 'number' ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}
