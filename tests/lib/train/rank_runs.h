// Runs of ranks that have parts of one model, as threads.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/thread_ranks.h"
#include "lib/train/runs.h"

namespace hone::test {

using GridOf = std::function<RankGrid(std::shared_ptr<Communicator>)>;

// The run of so many ranks, of a new model or from a checkpoint where one is named; its result on each.
inline std::vector<RunResult> run_on_grid(int ranks, const GridOf& grid_of, const Config& config,
                                          const RunSettings& settings, const std::string& resume) {
  std::vector<RunResult> results(static_cast<size_t>(ranks));
  const Corpus corpus = text(), valid = text().slice(0, 500);
  run_thread_ranks(ranks, [&](const std::shared_ptr<Communicator>& all) {
    RunSettings mine = settings;
    mine.step.grid = grid_of(all);
    Model model;
    ModelFile rest;
    if (resume.empty()) {
      model.transformer = std::make_unique<Transformer>(config, mine.step.grid.row);
      initialize(*model.transformer, 1);
    } else {
      ReadOptions read;
      read.run = true;
      model = load_model(resume, read, &rest, mine.step.grid.row);
    }
    results[static_cast<size_t>(all->rank())] =
        run_training(model, corpus, &valid, mine, resume.empty() ? nullptr : &rest);
  });
  return results;
}

// Of the parameters and of the run in a checkpoint, by name.
inline std::map<std::string, Tensor> arrays_in(const std::string& path) {
  ReadOptions read;
  read.run = true;
  const ModelFile file = read_model_file(path, read);
  std::map<std::string, Tensor> all = file.run_arrays;
  for (const auto& [name, encoded] : file.parameters)
    for (const auto& [array, tensor] : encoded.arrays) all[name + "/" + array] = tensor;
  return all;
}

}  // namespace hone::test
