//! What became of a packet. Each packet increments exactly one of these counters.

use crate::counted::counted;

counted! {
    /// The packet was sent on, answered, or left to the kernel. The numbers are part of the map layout.
    Verdict {
        /// Steered to a backend.
        Forward = 1, "forwarded";
        /// An ARP request for a VIP, answered.
        AnswerArp = 2, "answered_arp";
        /// An IPv6 neighbour solicitation for a VIP, answered.
        AnswerNd = 3, "answered_nd";
        /// An ICMP or ICMPv6 echo request to a VIP, answered.
        AnswerEcho = 4, "answered_echo";
        /// Too big for the interface to the backend as it would be sent; the sender was told the size that fits.
        AnswerTooBig = 5, "answered_too_big";
        /// Steered to a backend behind another interface, and handed to that.
        Redirect = 6, "redirected";
        /// Addressed to another station's MAC: the kernel's, which ignores it.
        PassOtherMac = 8, "passed_other_mac";
        /// Neither ARP, IPv4 nor IPv6, or a header is cut short: the kernel's.
        PassNotIp = 9, "passed_not_ip";
        /// No VIP is concerned: the kernel's.
        PassNotVip = 10, "passed_not_vip";
        /// An announcement of a VIP by another station (gratuitous ARP, ARP reply, neighbour advertisement): the kernel's.
        PassAnnouncement = 11, "passed_announcement";
        /// To a VIP, no such service, and the VIP is set to pass these.
        PassUnknownPort = 12, "passed_unknown_port";
        /// Received on an interface that the balancer does not know.
        PassUnknownInterface = 13, "passed_unknown_interface";
        /// ARP, neighbour solicitation or echo for a VIP that another node answers for.
        PassNoLease = 14, "passed_no_lease";
    }
}

counted! {
    /// The packet was dropped. The numbers are part of the map layout.
    DropReason {
        /// To a VIP, but the IP or transport header is cut short or contradicts the frame.
        Malformed = 20, "malformed";
        /// To a VIP, but no service has this port and protocol.
        UnknownPort = 21, "unknown_port";
        /// To a VIP, an IP protocol other than TCP, UDP and ICMP.
        UnknownProtocol = 22, "unknown_protocol";
        /// A fragment to a VIP: not steered yet.
        Fragment = 23, "fragment";
        /// An ICMP error to a VIP: not steered yet.
        IcmpError = 24, "icmp_error";
        /// An ICMP message to a VIP that is neither an error nor an echo request.
        IcmpOther = 25, "icmp_other";
        /// More IPv6 extension headers than are looked through.
        ExtensionHeaders = 26, "extension_headers";
        /// TTL or hop limit is used up.
        TtlExpired = 27, "ttl_expired";
        /// The service has no backend that may serve.
        NoBackend = 28, "no_backend";
        /// The backend's next hop has not answered ARP or neighbour discovery yet.
        NoNeighbour = 29, "no_neighbour";
        /// The backend is behind an interface that is not configured, or is gone.
        NoEgress = 30, "no_egress";
        /// The frame has no room for the outer header.
        NoHeadroom = 31, "no_headroom";
        /// Too big for the interface to the backend as it would be sent, and its sender could not be told, or not be asked for
        /// less (IPv6, 1,280 bytes).
        TooBig = 32, "too_big";
        /// Sent by the balancer itself or a peer that shares its MAC: forwarding it again would loop.
        OwnSource = 33, "own_source";
        /// Steering state is inconsistent: a table names a slot without a row. Should never count.
        Internal = 34, "internal";
    }
}

/// What became of a packet, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sent on, answered, or left to the kernel.
    Verdict(Verdict),
    /// Dropped.
    Drop(DropReason),
}

impl Outcome {
    /// Largest row in use.
    pub const LAST: u32 = DropReason::Internal as u32;

    /// Row among a CPU's counters.
    #[inline(always)]
    #[must_use]
    pub const fn row(self) -> u32 {
        match self {
            Self::Verdict(verdict) => verdict as u32,
            Self::Drop(reason) => reason as u32,
        }
    }

    /// What the program tells the kernel to do with the frame.
    #[inline(always)]
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::Verdict(Verdict::Redirect) => Action::Redirect,
            Self::Verdict(verdict) if (verdict as u8) < (Verdict::PassOtherMac as u8) => Action::Transmit,
            Self::Verdict(_) => Action::Pass,
            Self::Drop(_) => Action::Drop,
        }
    }
}

impl From<Result<Verdict, DropReason>> for Outcome {
    #[inline(always)]
    fn from(result: Result<Verdict, DropReason>) -> Self {
        match result {
            Ok(verdict) => Self::Verdict(verdict),
            Err(reason) => Self::Drop(reason),
        }
    }
}

/// What happens to the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sent out by the interface it came in by.
    Transmit,
    /// Sent out by the interface that was chosen for it.
    Redirect,
    /// Handed to the kernel, unchanged.
    Pass,
    /// Dropped.
    Drop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_row_and_a_name_of_its_own() {
        let mut rows = std::collections::BTreeSet::new();
        let mut names = std::collections::BTreeSet::new();
        for verdict in Verdict::ALL {
            assert!(rows.insert(Outcome::Verdict(*verdict).row()) && names.insert(verdict.name()));
        }
        for reason in DropReason::ALL {
            assert!(rows.insert(Outcome::Drop(*reason).row()) && names.insert(reason.name()));
        }
        assert_eq!(rows.last(), Some(&Outcome::LAST));
    }

    #[test]
    fn only_what_was_rewritten_is_transmitted() {
        assert_eq!(Outcome::Verdict(Verdict::Forward).action(), Action::Transmit);
        assert_eq!(Outcome::Verdict(Verdict::AnswerTooBig).action(), Action::Transmit);
        assert_eq!(Outcome::Verdict(Verdict::Redirect).action(), Action::Redirect);
        assert_eq!(Outcome::Verdict(Verdict::PassOtherMac).action(), Action::Pass);
        assert_eq!(Outcome::Drop(DropReason::Fragment).action(), Action::Drop);
    }
}
