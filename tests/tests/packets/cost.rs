//! What the programs cost the verifier: a limit of its own would be found out on the first kernel that looks closer.

use lb_user::bpf::program::{BALANCER, Cost, DECAPSULATOR, PASS, cost};

use crate::kernel::open;

/// Instructions that the verifier may look at, about twice of what it does on the kernel that this was written on; the
/// verifier's own limit is a million.
const BUDGETS: [(&str, u32); 3] = [(BALANCER, 60_000), (DECAPSULATOR, 4_000), (PASS, 10)];

#[test]
fn each_program_stays_within_its_budget_of_verified_instructions() {
    for (name, budget) in BUDGETS {
        let ebpf = open(1, name);
        let info =
            ebpf.program(name).expect("just loaded").info().expect("the kernel tells about its programs");
        let Cost { verified_instructions, jited_bytes, translated_bytes } = cost(&info);
        println!(
            "{name}: {verified_instructions} verified instructions of {budget}, {translated_bytes} bytes of BPF, \
             {jited_bytes} of machine code"
        );
        assert!(verified_instructions > 0, "{name}: this kernel does not count (Linux 5.16 does)");
        assert!(verified_instructions <= budget, "{name}: {verified_instructions} verified instructions");
    }
}
