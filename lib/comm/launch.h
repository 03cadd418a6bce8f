// What a launcher of MPI programs (mpirun, mpiexec, srun) says in the environment of those it starts. It is read
// without MPI: a build without it, and a tool that runs alone, must notice that they were started several times.
#pragma once

#include <string>

namespace hone {

struct Launch {
  int ranks = 1;        // started together
  int rank = 0;         // which of them this process is
  std::string said_by;  // the variable that says so; empty: this process was started alone
};

// Of Open MPI (OMPI_COMM_WORLD_SIZE), of MPICH and others with its process manager (PMI_SIZE), of Slurm's srun, which
// starts copies also where no MPI is asked for (SLURM_STEP_NUM_TASKS; a job's script, which runs once, has SLURM_NTASKS
// alone). A value that is no number says nothing.
Launch launch();

// Of this machine, as its network knows it.
std::string machine_name();

}  // namespace hone
