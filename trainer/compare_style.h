/* compare_style.h - the style sheet of the page that compare_html.c writes: light, dark, narrow and print. Lines have a dash of
 * their own beside a colour; colours have a contrast of 4.5 or more against the background in both schemes. */
#ifndef LORAT_COMPARE_STYLE_H
#define LORAT_COMPARE_STYLE_H

#define STYLE_LIGHT                                                                                                              \
    "--bg:#fff;--fg:#1b1f24;--dim:#565e67;--line:#c6ccd2;--grid:#e4e7ea;--card:#f5f6f8;"                                         \
    "--c0:#0b5cad;--c1:#b3420a;--c2:#00734d;--c3:#8a3d7d;--c4:#6b5200;--c5:#4d4d4d;--c6:#006d77;--c7:#a4133c"
#define STYLE_DARK                                                                                                               \
    "--bg:#14171a;--fg:#e6e8ea;--dim:#a3abb3;--line:#454c53;--grid:#2b3035;--card:#1d2125;"                                      \
    "--c0:#6db3f2;--c1:#ff9e64;--c2:#4fd1a1;--c3:#e39bd5;--c4:#e0c341;--c5:#c0c4c8;--c6:#5fd0dc;--c7:#ff8a9d"

static const char style_sheet[] =
    ":root{color-scheme:light dark;" STYLE_LIGHT "}\n"
    "@media (prefers-color-scheme:dark){:root{" STYLE_DARK "}}\n"
    "@media print{:root{color-scheme:light;" STYLE_LIGHT
    "}section,.pair,tr{break-inside:avoid}main{max-width:none}.scroll{overflow:visible}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}\n"
    "main{max-width:66rem;margin:0 auto;padding:1rem}\n"
    "h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0}h2{font-size:1.2rem;margin:2.2rem 0 .6rem}h3{font-size:1rem;margin:1rem "
    "0 .3rem}\n"
    "p,ul{margin:.5rem 0}.dim,figcaption,.none{color:var(--dim);font-size:.9rem}\n"
    ".verdict{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem 1rem;margin:.8rem 0}\n"
    ".verdict h3{margin:.2rem 0}.verdict ul{padding-left:1.2rem}\n"
    ".pair{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:1.5rem;align-items:start;margin:1rem 0}\n"
    "@media (max-width:46rem){.pair{grid-template-columns:minmax(0,1fr)}}\n"
    "figure{margin:0}figure>svg{width:100%;height:auto;display:block}\n"
    ".scroll{overflow-x:auto}.scroll:focus-visible{outline:2px solid var(--c0)}\n"
    "table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}\n"
    "caption{text-align:left;color:var(--dim);padding-bottom:.3rem}\n"
    "th,td{padding:.25rem .8rem .25rem 0;border-bottom:1px solid "
    "var(--line);text-align:left;vertical-align:top;overflow-wrap:break-word}\n"
    "td{min-width:5.5rem}.pair td{min-width:0}.pair th,.pair "
    "td{padding-right:.6rem}caption.hidden{position:absolute;left:-99rem}\n"
    "thead th{border-bottom:2px solid var(--line)}tbody th{font-weight:400;color:var(--dim);min-width:7rem}\n"
    ".legend{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;font-size:.9rem}\n"
    ".key{width:44px;height:10px;vertical-align:middle}.key.box{width:14px;height:14px}\n"
    ".grid{stroke:var(--grid)}.tick,.name{fill:var(--dim);font:13px system-ui,sans-serif}.name{fill:var(--fg)}\n"
    "@media (max-width:46rem){.tick,.name{font-size:16px}}\n"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}.part{stroke:var(--bg);stroke-width:1}\n"
    ".s0{stroke:var(--c0);stroke-width:3}.s1{stroke:var(--c1);stroke-dasharray:7 3}.s2{stroke:var(--c2);stroke-dasharray:2 3}\n"
    ".s3{stroke:var(--c3);stroke-dasharray:10 3 2 3}.s4{stroke:var(--c4);stroke-dasharray:12 "
    "4}.s5{stroke:var(--c5);stroke-dasharray:4 2}\n"
    ".s6{stroke:var(--c6);stroke-dasharray:8 2 2 2 2 2}.s7{stroke:var(--c7);stroke-dasharray:1 4}\n"
    ".p0{fill:var(--c0)}.p1{fill:var(--c1)}.p2{fill:var(--c4)}.p3{fill:var(--c2)}.p4{fill:var(--c3)}\n";

#endif
