// SIGINT and SIGTERM as a request that long work looks at between steps.
#pragma once

namespace hone {

void install_stop_handlers();  // a second signal of the same kind ends the process at once
int stop_signal();             // the signal received, or 0
void raise_stop(int signal);   // for tests

}  // namespace hone
