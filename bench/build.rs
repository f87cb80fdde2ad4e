//! Builds the programs that the packet bench measures with.

#[path = "../lb-ebpf/object.rs"]
mod object;

fn main() {
    object::build_for_inclusion("fairlead-bench-bpf", "bench.bpf.o");
}
