// Nothing: the headers that all unit tests begin with are precompiled for this file (CMakeLists.txt).
