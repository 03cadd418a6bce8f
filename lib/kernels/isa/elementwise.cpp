// Filled below by the loops of kernels/elementwise.h.
namespace hone::kernels::HONE_ISA {}
