"""The style sheet of the page: system typefaces, light and dark, screen and paper."""

STYLE = """\
:root {
  --paper: #ffffff; --card: #f6f7f9; --ink: #1b2230; --soft: #5a6475; --line: #dfe3ea;
  --link: #22609f;
  --ok: #1c7a4f; --info: #2a6cb0; --low: #71700f; --medium: #a65f00; --high: #c2410c;
  --critical: #b01030;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161d; --card: #1b212b; --ink: #e6e9ef; --soft: #9ba6b7; --line: #2f3744;
    --link: #7fb4ee;
    --ok: #4cc38a; --info: #6db0f2; --low: #c9c54b; --medium: #f0a94a; --high: #fb8150;
    --critical: #ff6b81;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 62rem; margin: 0 auto; padding: 3rem 1.5rem 2rem; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.02em; margin: 0;
  overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; letter-spacing: -.01em; margin: 0 0 .4rem; }
p { margin: 0; }
.about { color: var(--soft); margin-top: .4rem; overflow-wrap: anywhere; }
section { margin-top: 2.75rem; }
.lead { color: var(--soft); max-width: 46rem; margin-bottom: 1rem; overflow-wrap: anywhere; }
ul { list-style: none; margin: 0; padding: 0; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin-top: 2rem; padding: .75rem 0;
  border-block: 1px solid var(--line); font-size: .9rem; }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
.ok { --tone: var(--ok); } .info { --tone: var(--info); } .low { --tone: var(--low); }
.medium { --tone: var(--medium); } .high { --tone: var(--high); }
.critical { --tone: var(--critical); }
.chips { display: flex; flex-wrap: wrap; gap: .5rem; margin: .6rem 0 1rem; }
.chip { border: 1px solid var(--tone); color: var(--tone); border-radius: 1rem;
  padding: .1rem .75rem; font-size: .85rem; }
.finding { display: grid; grid-template-columns: 5.25rem 1fr auto; gap: .25rem 1rem;
  align-items: baseline; background: var(--card); border-left: 4px solid var(--tone);
  border-radius: 0 6px 6px 0; padding: .65rem 1rem; margin-bottom: .5rem; break-inside: avoid; }
.finding.ok { padding-block: .35rem; margin-bottom: .3rem; }
.finding div { min-width: 0; overflow-wrap: anywhere; }
.severity { color: var(--tone); font-weight: 650; font-size: .75rem; letter-spacing: .05em;
  text-transform: uppercase; }
.remedy { color: var(--soft); font-size: .9rem; margin-top: .15rem; }
code { font: .78rem/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; color: var(--soft);
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.table { width: 100%; font-size: .92rem; }
.table th, .table td { padding: .45rem .75rem; border-bottom: 1px solid var(--line);
  text-align: right; vertical-align: top; }
.table th:first-child { text-align: left; padding-left: 0; }
.table td:last-child, .table thead th:last-child { padding-right: 0; }
.table thead th { color: var(--soft); font-weight: 600; font-size: .82rem; vertical-align: bottom;
  border-bottom: 2px solid var(--line); }
.table tbody th { font-weight: 600; max-width: 20rem; overflow-wrap: break-word; }
.table:not(.facts) td { white-space: nowrap; }
.interval { white-space: nowrap; color: var(--soft); }
.facts th { width: 16rem; font-weight: 500 !important; color: var(--soft); }
.facts td { text-align: left; overflow-wrap: anywhere; }
.notes { color: var(--soft); font-size: .9rem; margin-top: .75rem; }
.notes li { padding-left: 1rem; text-indent: -1rem; overflow-wrap: anywhere; }
.notes li::before { content: "\\2013\\00a0\\00a0"; }
figure { margin: 0 0 1.25rem; break-inside: avoid; }
.chart { background: var(--card); border-radius: 8px; padding: 1rem 1rem .75rem; }
.chart svg { display: block; width: 100%; height: auto; max-width: 52rem; margin: 0 auto; }
.chart svg text { font-family: inherit !important; }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .5rem; text-align: center; }
.legend { display: flex; flex-wrap: wrap; justify-content: center; gap: .25rem 1.25rem;
  font-size: .9rem; margin-bottom: .5rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 3px;
  margin-right: .4rem; vertical-align: -1px; }
.pictures { font-size: .9rem; }
.pictures th { text-align: left; font-weight: 500; color: var(--soft); padding: .3rem 1rem .3rem 0;
  white-space: nowrap; }
.pictures td { padding: .3rem; text-align: center; white-space: nowrap; }
.pictures img { display: block; margin: 0 auto; width: 4.75rem; height: 4.75rem;
  object-fit: contain; image-rendering: pixelated; border: 1px solid var(--line);
  border-radius: 4px; background: #000; }
.wrong b { color: var(--high); } .right b { color: var(--ok); }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line);
  color: var(--soft); font-size: .85rem; }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem; }
  .finding { grid-template-columns: 1fr; }
}
@media print {
  :root { --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --link: #000;
    --ok: #1c7a4f; --info: #2a6cb0; --low: #71700f; --medium: #a65f00; --high: #c2410c;
    --critical: #b01030; }
  body { font-size: 10.5pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  section { margin-top: 1.5rem; }
  h2, .lead { break-after: avoid; break-inside: avoid; }
  tr, .facts, .pictures { break-inside: avoid; }
  .table { font-size: 8.5pt; }
  .table th, .table td { padding: .3rem .4rem; }
  .table:not(.facts) td { white-space: normal; }
  .scroll { overflow: visible; }
}"""
