//! The binary: everything is in the library.

// Every request makes and drops a few dozen small objects on changing threads, which glibc's allocator does with locks: a
// durable create takes a third less CPU with this one (`make bench`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    kes::cli::main()
}
