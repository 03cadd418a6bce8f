// Where each subject of a KernelSet puts its functions of one instruction set into its table.
#pragma once

namespace hone::kernels {

struct AttentionKernels;
struct CeilingFunctions;
struct ElementwiseTable;
struct GemmTable;
struct PackedTable;
struct RoutingTable;
struct ScaleSearch;

namespace HONE_ISA {

void set_functions(AttentionKernels& table);
void set_functions(CeilingFunctions& table);
void set_functions(ElementwiseTable& table);
void set_functions(GemmTable& table);
void set_functions(PackedTable& table);
void set_functions(RoutingTable& table);
void set_functions(ScaleSearch& table);

}  // namespace HONE_ISA
}  // namespace hone::kernels
