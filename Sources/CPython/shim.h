// Nothing of Python is called from Swift: this module only tells the compiler where its headers are.
