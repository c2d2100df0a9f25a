#include "trainer/lorat_main.h"

int main(int argc, char **argv) { return lorat_main(argc, argv); }
