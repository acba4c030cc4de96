"""The style sheet of the report page: system fonts, light and dark, nothing loaded from outside."""

# The series colours are those of Okabe and Ito (2008), lighter or darker for contrast with the paper.
STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f6f7f9; --ink: #1b2330; --soft: #566173; --rule: #dde2e9; --accent: #0b5cad;
  --mark: #e8f1fb; --s0: #3c4657; --s1: #c65300; --s2: #0072b2; --s3: #00845f; --s4: #b2508b; --s5: #9a6b00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161c; --raised: #1a2028; --ink: #e6eaf0; --soft: #9ca8b8; --rule: #2f3844; --accent: #79b8ff;
    --mark: #172b42; --s0: #b9c3d1; --s1: #ff9a56; --s2: #5bb5ee; --s3: #3fc79a; --s4: #e597c6; --s5: #e8bd4a;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.2rem clamp(1rem, 4vw, 2.5rem) 4rem; max-width: 84rem; background: var(--paper);
  color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { font-size: 1.2rem; font-weight: 600; margin: 0 0 .7rem; color: var(--soft); overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 0 0 .7rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
p { margin: 0 0 .8rem; max-width: 46rem; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.summary {
  font-size: clamp(1.15rem, 2.4vw, 1.5rem); line-height: 1.4; font-weight: 600; max-width: 54rem;
  margin: 0 0 1rem; overflow-wrap: anywhere; text-wrap: pretty;
}
.notes {
  margin: 0 0 1rem; padding: .6rem 1rem .6rem 2rem; background: var(--raised);
  border-left: 3px solid var(--s5);
}
nav {
  display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: .7rem 0; border-block: 1px solid var(--rule);
}
nav a { text-decoration: none; font-size: .92rem; }
nav a:hover { text-decoration: underline; }
.part { margin: 2.6rem 0 0; padding-top: 1.4rem; border-top: 2px solid var(--soft); }
section { padding-top: 2.2rem; scroll-margin-top: 0; }
.soft { color: var(--soft); font-size: .92rem; }
.scroll { overflow-x: auto; margin: 0 0 1rem; border: 1px solid var(--rule); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .6rem .8rem; font-weight: 600; border-bottom: 1px solid var(--rule); }
th, td { padding: .5rem .8rem; text-align: right; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; }
thead th { color: var(--soft); font-size: .85rem; background: var(--raised); }
thead th { white-space: normal; vertical-align: bottom; }
thead:has(+ tbody .key) th { text-align: left; }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
th[scope=row] { position: sticky; left: 0; background: var(--paper); }
th[scope=row], thead th:first-child { text-align: left; }
tbody tr.best > * { background: var(--mark); }
td small, th small { display: block; color: var(--soft); font-size: .8rem; font-weight: 400; }
table.words td { text-align: left; white-space: normal; min-width: 14rem; }
table.words thead th { text-align: left; }
.tag {
  display: block; width: max-content; margin-top: .15rem; padding: 0 .45rem; border: 1px solid currentColor;
  border-radius: 1rem;
  font-size: .75rem; color: var(--accent);
}
.key { width: 14rem; }
td.value { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td.value, code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .85rem; }
.charts { display: grid; gap: 1.2rem; margin: .8rem 0 1.2rem; max-width: 70rem; }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
.charts.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); max-width: none; }
.charts > .chart:only-child { max-width: 40rem; }
.chart {
  display: block; width: 100%; height: auto; padding: .7rem; background: var(--paper);
  border: 1px solid var(--rule);
  border-radius: 6px; font-family: inherit; font-variant-numeric: tabular-nums;
}
.chart text { fill: var(--ink); font-size: 12px; }
.chart .title { font-weight: 600; font-size: 13px; }
.chart .tick, .chart .name { fill: var(--soft); }
.chart .row { font-size: 12.5px; }
.chart .grid { stroke: var(--rule); }
.chart .axis { stroke: var(--soft); }
.chart .zero { stroke: var(--soft); stroke-width: 1.4; }
.chart .diagonal { stroke: var(--soft); stroke-dasharray: 5 4; }
.chart .line, .chart .bar { fill: none; stroke: var(--c); stroke-width: 1.8; }
.chart .marker { fill: var(--c); stroke: var(--paper); stroke-width: .8; }
.chart .ring { fill: none; stroke: var(--c); stroke-width: 1.3; }
.chart .band { fill: var(--c); opacity: .16; }
.chart .leader { stroke: var(--soft); stroke-width: .7; }
.chart .joined { fill: none; stroke: var(--accent); stroke-width: 6; stroke-linejoin: round; opacity: .22; }
.chart .interval { stroke: var(--accent); stroke-width: 1.8; }
.chart .clear { fill: var(--accent); stroke: var(--accent); stroke-width: 1.8; }
.chart .hollow { fill: var(--paper); stroke: var(--accent); stroke-width: 1.8; }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); }
.s3 { --c: var(--s3); } .s4 { --c: var(--s4); } .s5 { --c: var(--s5); }
details { margin: 0 0 .8rem; }
summary { cursor: pointer; padding: .3rem 0; font-size: .92rem; color: var(--accent); }
.cards { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15.5rem), 1fr)); }
.card { padding: .7rem .8rem; border: 1px solid var(--rule); border-radius: 6px; font-size: .92rem; }
.card h4 { display: flex; justify-content: space-between; margin: 0; font-size: .95rem; }
.card ol, .card p { list-style: none; margin: 0; padding: 0; }
.card li { display: grid; grid-template-columns: 1fr max-content; gap: 0 .6rem; padding: .2rem 0; }
.card li + li { border-top: 1px solid var(--rule); }
.card small { grid-column: 1 / -1; color: var(--soft); font-size: .8rem; }
.named { overflow-wrap: anywhere; }
.share { height: .4rem; margin: .35rem 0 .4rem; border-radius: .2rem; background: var(--rule); }
.share > div { height: 100%; border-radius: inherit; background: var(--accent); }
@media (max-width: 34rem) {
  th, td, caption { padding: .45rem .6rem; }
  .key { width: auto; }
  table.words td { min-width: 9rem; overflow-wrap: anywhere; }
  table.words th { white-space: normal; min-width: 6.5rem; overflow-wrap: anywhere; }
}
@media print { .scroll { overflow: visible; } section { break-inside: avoid; } nav { display: none; } }
"""
