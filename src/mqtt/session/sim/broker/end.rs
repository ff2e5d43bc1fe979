//! What must be true of the broker when nothing is left to do.

use std::collections::BTreeSet;

use super::Broker;
use crate::mqtt::packet::QoS;
use crate::mqtt::session::sim::client::Client;

impl Broker {
    /// Nothing is left to do here.
    pub(in super::super) fn is_done(&self) -> bool {
        let has_none = self.kept.as_ref().is_none_or(|kept| kept.outgoing.is_empty());
        has_none && self.next_out >= self.plan.incoming
    }

    /// What must be true when nothing is left to do.
    pub(in super::super) fn check_end(&self, client: &Client) {
        let is_subscribed = self.kept.as_ref().is_some_and(|kept| kept.is_subscribed);
        assert!(self.plan.goes_back || is_subscribed == client.wish, "subscribed {is_subscribed}, not {}", client.wish);
        for (number, message) in client.log.iter().enumerate() {
            let number = number as u32;
            let deliveries = self.deliveries.get(&number).map_or(&[][..], Vec::as_slice);
            // A limit that changed makes a gap, as a refusal does.
            let may_miss = self.refused.contains(&number)
                || self.plan.has_changing_limits
                || (message.qos == QoS::ExactlyOnce && client.doubtful.contains(&number) && self.plan.goes_back);
            match message.qos {
                QoS::AtMostOnce => continue,
                QoS::AtLeastOnce | QoS::ExactlyOnce => {
                    assert!(!deliveries.is_empty() || may_miss, "{number} at {} is lost", message.qos);
                }
            }
            if message.qos == QoS::ExactlyOnce && !self.plan.goes_back {
                let sessions: BTreeSet<_> = deliveries.iter().collect();
                // [MQTT-4.3.3-6] [MQTT-4.4.0-1]
                assert_eq!(sessions.len(), deliveries.len(), "{number} came twice in one session: {deliveries:?}");
            }
        }
        for number in (0..self.plan.incoming).filter(|number| !self.lost.contains(number)) {
            assert!(client.accepted().contains(&number), "message {number} to us is lost");
        }
    }
}
