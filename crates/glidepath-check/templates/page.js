'use strict';
(() => {
const all = (what, where = document) => [...where.querySelectorAll(what)];
const one = id => document.getElementById(id);
for (const part of all('.js')) part.hidden = false;

// The colours, remembered where the browser lets a page do so.
const theme = one('theme');
try { theme.value = localStorage.getItem('glidepath-theme') || 'system'; } catch {}
theme.addEventListener('change', () => { try { localStorage.setItem('glidepath-theme', theme.value); } catch {} });

// What a link leads to is opened and shown, whatever the filters say.
const reveal = () => {
  let id = location.hash.slice(1);
  try { id = decodeURIComponent(id); } catch {}
  const target = id && one(id);
  if (!target) return;
  for (let at = target; at; at = at.parentElement) {
    if (at.tagName === 'DETAILS') at.open = true;
    if (at.classList.contains('case')) {
      const box = one('show-' + at.classList[1]);
      if (box && !box.checked) { box.checked = true; sift(); }
    }
  }
  target.scrollIntoView({ block: target.tagName === 'TR' ? 'center' : 'start' });
};
addEventListener('hashchange', reveal);

// The filters themselves are CSS. This hides the headings above nothing, and says how many are left.
const boxes = all('[id^=show-]');
const cases = all('.case');
const sift = () => {
  const on = new Set(boxes.filter(box => box.checked).map(box => box.id.slice(5)));
  const shown = it => on.has(it.classList[1]);
  for (const group of all('.group')) group.hidden = !all('.case', group).some(shown);
  one('shown').textContent = on.size === boxes.length ? '' : `${cases.filter(shown).length} of ${cases.length} shown`;
};
for (const box of boxes) box.addEventListener('change', sift);
one('open')?.addEventListener('click', () => { for (const it of cases) it.open = true; });
one('close')?.addEventListener('click', () => { for (const it of cases) it.open = false; });

// The shapes of the marks, in the lists too.
for (const list of all('.list')) list.addEventListener('toggle', () => {
  for (const cell of all('td[class]', list)) {
    cell.insertAdjacentHTML('afterbegin', `<svg aria-hidden="true"><use href="#${cell.className}"/></svg>`);
  }
}, { once: true });

// What a mark is called: in a list that is closed, browsers don't look for names.
for (const mark of all('.lane a[aria-labelledby]')) {
  const [when, who, what] = one(mark.getAttribute('aria-labelledby')).cells;
  mark.setAttribute('aria-label', `${when.textContent}, ${who.textContent}: ${what.textContent}`);
  mark.removeAttribute('aria-labelledby');
}

// One stop for Tab in each picture; from there arrows go from mark to mark.
const marks = picture => all('.lane a', picture);
for (const picture of all('.p')) marks(picture).forEach((mark, nth) => mark.setAttribute('tabindex', nth ? -1 : 0));
document.addEventListener('keydown', event => {
  if (event.key === 'Escape') hide();
  const mark = event.target.closest?.('.lane a');
  if (!mark || event.ctrlKey || event.metaKey || event.altKey) return;
  const lane = mark.closest('.lane'), picture = mark.closest('.p');
  const lanes = all('.lane', picture).filter(lane => lane.querySelector('a'));
  const list = marks(picture), at = list.indexOf(mark);
  const beside = step => {
    const other = lanes[lanes.indexOf(lane) + step];
    if (!other) return;
    const left = it => it.querySelector('use').getBoundingClientRect().left;
    const away = it => Math.abs(left(it) - left(mark));
    return marks(other).reduce((best, it) => away(it) < away(best) ? it : best);
  };
  const to = { ArrowRight: () => list[at + 1], ArrowLeft: () => list[at - 1], Home: () => list[0], End: () => list.at(-1),
    ArrowDown: () => beside(1), ArrowUp: () => beside(-1) }[event.key];
  if (!to) return;
  event.preventDefault();
  const next = to();
  if (!next) return;
  mark.setAttribute('tabindex', -1);
  next.setAttribute('tabindex', 0);
  next.focus();
});

// What a mark stands for, beside it.
const tip = one('tip');
let leaving;
const hide = () => { tip.hidden = true; };
const show = mark => {
  clearTimeout(leaving);
  const row = one(decodeURIComponent(mark.getAttribute('href').slice(1)));
  const what = document.createElement('span');
  const crowd = mark.querySelector('text');
  what.textContent = crowd ? mark.getAttribute('aria-label') : [...row.cells[2].childNodes].find(part => part.nodeType === Node.TEXT_NODE).textContent;
  const where = document.createElement('b');
  where.textContent = `${row.cells[0].textContent} · ${row.cells[1].textContent}`;
  tip.replaceChildren(...(crowd ? [what] : [where, what]));
  const bytes = row.querySelector('pre');
  if (bytes) tip.append(bytes.cloneNode(true));
  tip.hidden = false;
  const box = mark.querySelector('use').getBoundingClientRect();
  const most = document.documentElement.clientWidth - tip.offsetWidth - 8;
  const below = box.bottom + tip.offsetHeight + 8 < innerHeight;
  tip.style.left = scrollX + Math.max(8, Math.min(most, box.left - 12)) + 'px';
  tip.style.top = scrollY + (below ? box.bottom + 6 : box.top - tip.offsetHeight - 6) + 'px';
};
const near = event => event.target.closest?.('.lane a');
const leave = () => { leaving = setTimeout(hide, 150); };
document.addEventListener('pointerover', event => { const mark = near(event); if (mark) show(mark); });
document.addEventListener('pointerout', event => { if (near(event)) leave(); });
document.addEventListener('focusin', event => { const mark = near(event); mark ? show(mark) : hide(); });
tip.addEventListener('pointerenter', () => clearTimeout(leaving));
tip.addEventListener('pointerleave', leave);

sift();
reveal();
})();
