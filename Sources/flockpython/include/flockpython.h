// The extension module has no C interface of its own: an interpreter finds `PyInit_flockpython` in the library.
