#include "overview/html.h"

#include <fmt/format.h>

#include "base/version.h"
#include "report/markup.h"

namespace hone {
namespace {

// One page that stands alone: no file, no font and no script from elsewhere.
constexpr const char* style = R"css(
:root { color-scheme: light; --ink: #1c2126; --soft: #56606a; --line: #d9dee3; --band: #f5f7f9; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 24px 20px 48px; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 36px 0 4px; padding-top: 12px; border-top: 2px solid var(--ink); }
h3 { font-size: 16px; margin: 20px 0 4px; overflow-wrap: anywhere; }
p { margin: 4px 0 12px; color: var(--soft); max-width: 78ch; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: 8px 0 16px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; min-width: 60%; }
th, td { padding: 6px 12px 6px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; font-size: 13px; vertical-align: bottom; }
tbody th { font-weight: 600; overflow-wrap: anywhere; min-width: 8em; max-width: 20em; }
.n { text-align: right; white-space: nowrap; padding: 6px 0 6px 12px; }
thead .n { white-space: normal; }
tbody th small { font-weight: 400; }
small { display: block; white-space: pre-line; color: var(--soft); font-size: 12.5px; }
code { font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 12px 24px; }
figure { margin: 0; break-inside: avoid; }
svg { display: block; width: 100%; max-width: 760px; height: auto; }
.glance { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0 0; padding: 0; list-style: none; }
.glance li { flex: 1 1 150px; background: var(--band); border-left: 4px solid #1f6fb4; padding: 10px 14px; }
.glance b { display: block; font-size: 22px; line-height: 1.2; }
.glance span { color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
footer { margin-top: 40px; color: var(--soft); font-size: 13px; }
@media (max-width: 600px) { body { padding: 16px 12px 32px; } td, th { padding-right: 8px; } }
@media print {
  @page { margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  .wide { overflow: visible; }
  table { font-size: 8pt; min-width: 0; }
  thead th, small { font-size: 7pt; }
  tbody th { min-width: 7em; padding-right: 4px; }
  .n { padding-left: 6px; }
  tr, li, h2, h3 { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .figures { grid-template-columns: 1fr 1fr; }
  .glance li { border: 1px solid var(--line); }
}
)css";

}  // namespace

std::string html_table(const std::vector<std::string>& heads, const std::vector<std::vector<HtmlCell>>& rows) {
  std::string text = "<div class=\"wide\" tabindex=\"0\"><table>\n<thead><tr>";
  for (size_t i = 0; i < heads.size(); ++i) {
    const bool number = !rows.empty() && i < rows.front().size() && rows.front()[i].number;
    text += fmt::format("<th scope=\"col\"{}>{}</th>", number ? " class=\"n\"" : "", html_escaped(heads[i]));
  }
  text += "</tr></thead>\n<tbody>\n";
  for (const std::vector<HtmlCell>& row : rows) {
    text += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) {
      const HtmlCell& cell = row[i];
      const char* open = i == 0 ? "<th scope=\"row\"" : "<td";
      std::string inside = html_escaped(cell.text);
      if (cell.code) inside = "<code>" + inside + "</code>";
      if (!cell.note.empty()) inside += "<small>" + html_escaped(cell.note) + "</small>";
      text += fmt::format("{}{}>{}{}", open, cell.number ? " class=\"n\"" : "", inside, i == 0 ? "</th>" : "</td>");
    }
    text += "</tr>\n";
  }
  return text + "</tbody></table></div>\n";
}

std::string html_figure(const Plot& plot) {
  std::string svg = render_svg(plot);
  const std::string label = html_escaped(fmt::format("{}: {} over {}", plot.title, plot.y.label, plot.x.label));
  svg.insert(4, " role=\"img\" aria-label=\"" + label + "\"");  // behind "<svg"
  return "<figure>" + svg + "</figure>\n";
}

std::string html_section(const std::string& heading, const std::string& sentence, const std::string& content) {
  std::string text = "<section>\n";
  if (!heading.empty()) text += "<h2>" + html_escaped(heading) + "</h2>\n";
  if (!sentence.empty()) text += "<p>" + html_escaped(sentence) + "</p>\n";
  return text + content + "</section>\n";
}

std::string html_page(const std::string& title, const std::string& sentence, const std::string& content) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
      "<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<header><h1>{0}</h1>\n<p>{2}</p></header>\n<main>\n{3}"
      "</main>\n<footer>hone {4}</footer>\n</body>\n</html>\n",
      html_escaped(title), style, html_escaped(sentence), content, version());
}

}  // namespace hone
