"""Stock Debian kernels in QEMU: fetches them, builds one userland for all, boots one and runs a command in it."""
