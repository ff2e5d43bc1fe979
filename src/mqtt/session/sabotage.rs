//! Faults put into the session on purpose, so that the simulation and the tests can show that they find each of them.
//!
//! Owns one switch a thread in tests; elsewhere no fault is ever on, and the compiler leaves the places out.

/// A way in which the session could be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// What is sent again has no DUP. [MQTT-3.3.1-1]
    DupForgotten,
    /// PUBREL goes out before the caller says that PUBREC is durable (R4).
    ReleasedEarly,
    /// Aliases outlive the connection. [MQTT-3.3.2-7]
    AliasesKept,
    /// More aliases than the server takes. [MQTT-3.2.2-17]
    AliasesBeyondMaximum,
    /// What was in flight on the last connection counts against the quota of this one (F-19). [MQTT-4.9.0-1]
    QuotaNotReset,
    /// Resends do not look at Receive Maximum. [MQTT-3.3.4-7]
    QuotaIgnoredOnResend,
    /// Receive Maximum is not read from CONNACK. [MQTT-3.3.4-7]
    ReceiveMaximumIgnored,
    /// Limits of the last connection hold where CONNACK says nothing.
    LimitsKept,
    /// New messages go before those that must be sent again. [MQTT-4.6.0-1]
    FreshBeforeResend,
    /// Resends go out in another order. [MQTT-4.6.0-1]
    ResendOutOfOrder,
    /// PUBLISH is sent again after PUBREC. [MQTT-4.3.3-6]
    PublishAfterPubrel,
    /// An identifier is taken although its exchange is not over. [MQTT-2.2.1-3]
    IdInUse,
    /// A new session goes on as if it were the old one. [MQTT-3.2.2-5]
    NewSessionTakenForOld,
    /// The old session is thrown away although it is present. [MQTT-4.4.0-1]
    OldSessionTakenForNew,
    /// "Session present" after Clean Start is believed. [MQTT-3.2.2-4]
    CleanStartContradicted,
    /// What comes in at QoS 2 is told apart by its DUP flag (F-16). [MQTT-4.3.3-10]
    DedupByDup,
    /// Identifiers of QoS 2 that came in end with the connection. [MQTT-4.1.0-1]
    IncomingForgotten,
    /// No PUBCOMP for a PUBREL that is not known. [MQTT-4.3.3-11]
    PubcompForgotten,
    /// PUBRELs go out as the caller releases them. [MQTT-4.6.0-4]
    PubrelsOutOfOrder,
    /// PUBACKs and PUBRECs go out as the caller acknowledges. [MQTT-4.6.0-2] [MQTT-4.6.0-3]
    AnswersOutOfOrder,
    /// PUBREC with an error is taken for one without. [MQTT-4.4.0-2]
    RefusalNotFinal,
    /// The size of packets is not looked at. [MQTT-3.2.2-15]
    TooLargeSent,
    /// Maximum QoS is not looked at. [MQTT-3.2.2-11]
    QosTooHighSent,
    /// PUBRELs of an earlier process are not sent. [MQTT-4.4.0-1]
    ReleasedNotRestored,
    /// Bytes of half a packet are kept for the next connection.
    HalfPacketKept,
    /// What was not written is written to the next connection.
    OutputKept,
    /// Packets other than PUBLISH wait behind PUBLISH. [MQTT-3.3.4-8]
    ControlBehindPublishes,
    /// Bytes that flow prove that the link lives (F-21). [MQTT-3.1.2-20]
    TrafficHidesDeadLink,
    /// Messages of the connection alone are sent again on the next one.
    VolatileKept,
    /// Something is said behind DISCONNECT. [MQTT-3.14.4-1]
    WordsAfterDisconnect,
    /// A request bears the identifier of one that waits. [MQTT-2.2.1-3]
    RequestIdInUse,
    /// PUBREL that was sent on an earlier connection counts as sent for the first time (R9).
    FirstForgotten,
}

/// Every one of them.
#[cfg(test)]
pub(super) const FAULTS: &[Fault] = &[
    Fault::DupForgotten,
    Fault::ReleasedEarly,
    Fault::AliasesKept,
    Fault::AliasesBeyondMaximum,
    Fault::QuotaNotReset,
    Fault::QuotaIgnoredOnResend,
    Fault::ReceiveMaximumIgnored,
    Fault::LimitsKept,
    Fault::FreshBeforeResend,
    Fault::ResendOutOfOrder,
    Fault::PublishAfterPubrel,
    Fault::IdInUse,
    Fault::NewSessionTakenForOld,
    Fault::OldSessionTakenForNew,
    Fault::CleanStartContradicted,
    Fault::DedupByDup,
    Fault::IncomingForgotten,
    Fault::PubcompForgotten,
    Fault::PubrelsOutOfOrder,
    Fault::AnswersOutOfOrder,
    Fault::RefusalNotFinal,
    Fault::TooLargeSent,
    Fault::QosTooHighSent,
    Fault::ReleasedNotRestored,
    Fault::HalfPacketKept,
    Fault::OutputKept,
    Fault::ControlBehindPublishes,
    Fault::TrafficHidesDeadLink,
    Fault::VolatileKept,
    Fault::WordsAfterDisconnect,
    Fault::RequestIdInUse,
    Fault::FirstForgotten,
];

/// Whether this fault is put in.
#[cfg(not(test))]
pub(super) const fn on(_: Fault) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static FAULT: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether this fault is put in.
#[cfg(test)]
pub(super) fn on(fault: Fault) -> bool {
    FAULT.get() == Some(fault)
}

/// Puts a fault into this thread's sessions, or takes it out.
#[cfg(test)]
pub(super) fn set(fault: Option<Fault>) {
    FAULT.set(fault);
}
