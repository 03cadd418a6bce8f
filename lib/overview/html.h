// Pieces of an HTML page: every text is escaped on its way in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/markup.h"
#include "report/plot.h"

namespace hone {

struct HtmlCell {
  std::string text = {};
  std::string note = {};  // small, below it
  bool number = false;    // to the right
  bool code = false;      // as a person types it
};

// `heads` beside a cell for each in every row; the first column names its row.
std::string html_table(const std::vector<std::string>& heads, const std::vector<std::vector<HtmlCell>>& rows);

// A picture with its text for those who do not see it.
std::string html_figure(const Plot& plot);

// <section> with a heading, a sentence that says what is shown (either may be empty), and `content`, which is HTML.
std::string html_section(const std::string& heading, const std::string& sentence, const std::string& content);

// The whole page; `content` is HTML.
std::string html_page(const std::string& title, const std::string& sentence, const std::string& content);

}  // namespace hone
