// What two ranks can send each other, for the `network` and `latency` of bench --plan: run by hand.
//
//     mpicc -O2 tests/tools/ranks_network.c -o ranks_network && mpirun -n 2 ranks_network
//
// Both send and receive at the same time, 8 MB and 8 bytes, as ranks do that add up gradients or rows.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double seconds_of(char* out, char* in, int bytes, int times, int other) {
  MPI_Barrier(MPI_COMM_WORLD);
  const double begun = MPI_Wtime();
  for (int i = 0; i < times; ++i) {
    MPI_Request both[2];
    MPI_Status statuses[2];
    MPI_Irecv(in, bytes, MPI_BYTE, other, 0, MPI_COMM_WORLD, &both[0]);
    MPI_Isend(out, bytes, MPI_BYTE, other, 0, MPI_COMM_WORLD, &both[1]);
    MPI_Waitall(2, both, statuses);
  }
  return (MPI_Wtime() - begun) / times;
}

int main(int argc, char** argv) {
  enum { large = 8 << 20, small = 8 };
  int rank, ranks;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (ranks != 2) {
    if (rank == 0) fprintf(stderr, "error: it takes two ranks: mpirun -n 2 %s\n", argv[0]);
    MPI_Finalize();
    return 2;
  }
  char *out = malloc(large), *in = malloc(large);
  if (!out || !in) return 1;
  memset(out, 1, large);
  memset(in, 0, large);
  seconds_of(out, in, large, 20, 1 - rank);  // warms up
  const double of_large = seconds_of(out, in, large, 100, 1 - rank), of_small = seconds_of(out, in, small, 10000, 1 - rank);
  if (rank == 0) printf("network=%.2fG,latency=%.1e\n", large / of_large / 1e9, of_small);
  MPI_Finalize();
  return 0;
}
