"""The style of the page of a plan. Colours are those of `markup.PALETTE`, as custom properties."""

from __future__ import annotations

# Wide: plan and file side by side, each with a scroll bar of its own: a link into the one leaves the other as it
# is. Narrow and in print: one below the other, and one column for both sides.
STYLE = """
*,*::before,*::after{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:14px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
a{color:var(--link)}
code,pre,.what,.where,.n,.num{font-family:ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}
h1,h2,h3,p,ol,ul,dl,dd,figure,pre{margin:0;padding:0}
h1{font-size:20px}h2{font-size:16px}h3{font-size:12px}
header{padding:14px 16px 10px;border-bottom:1px solid var(--line)}
header p,.dim{color:var(--dim)}
nav a{margin-right:14px}
section{padding:12px 16px}
ul{list-style:none}ol{list-style:none}
:focus-visible{outline:2px solid var(--link);outline-offset:1px}
.odd{border:1px solid var(--bad);border-radius:3px;color:var(--bad);font-size:85%;padding:0 2px}
.what,.where,.source .k,.source .s,.hint,td{unicode-bidi:isolate}
.badge{border:1px solid currentColor;border-radius:9px;padding:0 7px;font-size:12px;white-space:nowrap}
.ok{color:var(--runtime)}.warn{color:var(--barrier)}.bad{color:var(--bad)}
.notes li,.edits li{border-left:3px solid var(--line);padding:2px 0 2px 10px;margin:6px 0}
.notes li.finding{border-color:var(--bad)}.notes li.warning{border-color:var(--barrier)}
.notes li:target,.edits li:target,.step:target{background:var(--target);outline:2px solid var(--barrier)}
summary{cursor:pointer;font-weight:600}
details{margin:10px 0}
.edits .minus,.edits .plus{display:block;font:12px/1.5 ui-monospace,Menlo,Consolas,monospace}
.edits .minus{color:var(--bad)}.edits .plus{color:var(--runtime)}
.about{margin:3px 0;font-size:13px}
.more{margin:2px 0;font-size:12px}.more summary{font-weight:400;color:var(--dim)}
.more li{font-family:ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;unicode-bidi:isolate}
.legend{color:var(--dim);margin:4px 0 8px}
.lanes{display:grid;grid-template-columns:26px minmax(0,1fr);row-gap:5px}
.lanes ol{display:contents}
.lanes h3{grid-column:2;margin-top:10px;text-transform:uppercase;letter-spacing:.04em}
.lanes h3 span{font-weight:400;text-transform:none;letter-spacing:0}
.rt{--c:var(--runtime)}.ct{--c:var(--container)}
.lanes h3{color:var(--c)}
.step{grid-column:2;min-width:0;background:var(--panel);border:1px solid var(--line);border-left:4px solid var(--c);
border-radius:4px;padding:3px 8px;break-inside:avoid;overflow:clip;align-self:start}
.step.ct{margin-left:14px;border-left-style:double;border-left-width:6px}
.what{font-size:12.5px;white-space:pre-wrap}
.num{color:var(--dim);font-size:12px;text-decoration:none;margin-right:6px}
.sub{font-size:12px;color:var(--dim)}
.sub>*{margin-right:9px}
.where{font-size:12px}
.at{white-space:nowrap}
.lasts{color:var(--undo)}
.time{font-variant-numeric:tabular-nums;color:var(--fg);white-space:nowrap}
.bar{display:inline-block;vertical-align:middle;height:7px;min-width:1px;background:var(--c);border-radius:2px;margin:0}
.wait{font-size:12px;color:var(--barrier)}
.wait a{color:inherit}
.arrow{grid-column:1;position:relative;margin:14px 0 -19px;pointer-events:none}
.arrow::before{content:"";position:absolute;inset:0 6px 0 calc(2px + var(--k)*5px);border:2px solid var(--barrier);
border-right:0;border-radius:6px 0 0 6px}
.arrow::after{content:"";position:absolute;right:-1px;bottom:-4px;border:5px solid transparent;
border-left:8px solid var(--barrier);border-right:0}
.heads{display:none}
.source{font-size:12px;line-height:1.55;white-space:pre-wrap;position:relative;padding-left:3.6em;tab-size:2;
margin-top:8px;word-break:break-all}
.source .n{position:absolute;left:0;width:3em;text-align:right;color:var(--dim);text-decoration:none;user-select:none}
.source .v{border-radius:3px}
.source .v:target{background:var(--target);outline:2px solid var(--barrier)}
.source .n:target{background:var(--target);color:var(--fg)}
.source .k{color:var(--key)}.source .s{color:var(--string)}.source .d{color:var(--number)}.source .w{color:var(--word)}
.m{font:11px/1.2 system-ui,sans-serif;border:1px solid currentColor;border-radius:8px;padding:0 5px;
text-decoration:none;user-select:none;white-space:nowrap}
.m.rt{color:var(--runtime)}.m.ct{color:var(--container)}.m.finding{color:var(--bad)}.m.warning{color:var(--barrier)}
.m.edit{color:var(--undo)}
.cut{color:var(--dim);font-style:italic}
[id]{scroll-margin-block:64px 40px}
"""

WIDE = """
body{height:100vh;display:flex;flex-direction:column}
main{flex:1;min-height:0;display:grid;grid-template-columns:minmax(0,1.9fr) minmax(0,1fr)}
main>section{overflow:auto}
#config{border-left:1px solid var(--line)}
.lanes{grid-template-columns:minmax(0,5fr) 66px minmax(0,7fr)}
.lanes .rt{grid-column:1}.lanes .ct{grid-column:3}
.lanes h3{align-self:end}
.step,.step.ct{margin:0}
.step.ct{border-left-width:6px}
.heads{display:grid;grid-template-columns:minmax(0,5fr) 66px minmax(0,7fr);position:sticky;top:-12px;z-index:1;
background:var(--bg);border-bottom:1px solid var(--line);padding:4px 0;font-weight:600}
.heads .rt{grid-column:1;color:var(--c)}.heads .ct{grid-column:3;color:var(--c)}
.lanes .arrow{grid-column:2}
.arrow::before,.arrow::after{border-radius:0}
.arrow.to-ct::before{inset:0 auto 0 0;width:calc(14px + var(--k)*9px);border:2px solid var(--barrier);border-left:0;
border-bottom:0;border-top-right-radius:7px}
.arrow.to-rt::before{inset:0 0 0 auto;width:calc(14px + var(--k)*9px);border:2px solid var(--barrier);border-right:0;
border-bottom:0;border-top-left-radius:7px}
.arrow.to-ct::after{border:0;height:2px;background:var(--barrier);left:calc(12px + var(--k)*9px);right:6px;bottom:0}
.arrow.to-rt::after{border:0;height:2px;background:var(--barrier);right:calc(12px + var(--k)*9px);left:6px;bottom:0}
.arrow i{position:absolute;bottom:-4px;border:5px solid transparent}
.arrow.to-ct i{right:0;border-left:8px solid var(--barrier);border-right:0}
.arrow.to-rt i{left:0;border-right:8px solid var(--barrier);border-left:0}
"""

PRINT = """
nav,.heads{display:none}
body{font-size:11px}
.step,.notes li{break-inside:avoid}
#config{break-before:page}
a{text-decoration:none}
"""
