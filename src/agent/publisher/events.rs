//! What the session says: acknowledgements settle messages, refusals become gaps, the end of a session is noted.

use std::collections::VecDeque;
use std::time::Duration;

use tracing::{debug, error, warn};

use super::blame::blames;
use super::culprit::Exchange;
use super::doubt::Verdict;
use super::link::Link;
use super::{End, Publisher};
use crate::agent::log::{Ended, Step};
use crate::mqtt::reconnect::Failure;
use crate::mqtt::session::Event;
use crate::mqtt::{PacketId, Reason};
use crate::os::clock;
use crate::spool::GapReason;

/// A message that was refused for now so often is refused for good.
const REFUSALS_MAX: u8 = 10;
/// How long publishing pauses after a refusal for now.
const REFUSAL_PAUSE: Duration = Duration::from_secs(2);

impl Publisher {
    /// Handles what the session has to say; gives why the connection ends, if it does.
    pub(super) async fn events(&mut self, link: &mut Link) -> Result<Option<End>, Ended> {
        let mut waiting = VecDeque::new();
        while let Some(event) = waiting.pop_front().or_else(|| self.session.poll_event()) {
            let Some(event) = self.doubt.hold(event) else { continue };
            match event {
                Event::Subscribed { id, reasons, .. } | Event::Unsubscribed { id, reasons, .. }
                    if self.commands_subscribed(id, &reasons).await => {}
                Event::Unsubscribed { id, .. } if self.has_proved(link, id) => {}
                Event::Subscribed { id, reasons, .. } => self.planted(id, &reasons),
                Event::Unsubscribed { id, reasons, .. } => match self.answered(clock::now(), id, &reasons).await? {
                    Some(Verdict::Ours(held)) => waiting.extend(held),
                    Some(Verdict::Another(why)) => return Ok(Some(self.distrust(why.into()))),
                    None => {}
                },
                event => {
                    if let Event::Message(message) = &event
                        && let Some(held) = self.heard(clock::now(), message).await?
                    {
                        waiting.extend(held);
                    }
                    if let Err(end) = self.event(link, event) {
                        return Ok(Some(end));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Handles one event; an error ends the connection.
    fn event(&mut self, link: &mut Link, event: Event) -> Result<(), End> {
        match event {
            Event::Acknowledged { id, reason, text } => self.acknowledged(link, id, reason, text.as_deref()),
            Event::Received { id } => {
                if let Some(number) = self.window.number(id) {
                    self.innocent(link, &Exchange::Message(number));
                    self.step(Step::Released(number));
                    link.releases.push_back((self.steps_given, id));
                }
            }
            Event::Completed { id, reason, first } => {
                // R9: a PUBREL that was never sent before is not known: the broker went back in time.
                if first && reason == Reason::PACKET_IDENTIFIER_NOT_FOUND {
                    return Err(self.distrust(format!("the broker has lost message {id}, which it had received")));
                }
                self.delivered(link, id);
            }
            Event::Disconnected { reason, text, server_reference } => {
                let text = text.map(|text| format!(": {text}")).unwrap_or_default();
                let why = format!("the broker says good-bye, {reason}{text}");
                if reason == Reason::SESSION_TAKEN_OVER {
                    return Err(self.distrust(format!("{why}; is there another client with the id of this one?")));
                }
                if matches!(reason, Reason::USE_ANOTHER_SERVER | Reason::SERVER_MOVED) {
                    return Err(End::Redirected { failure: Failure::Disconnected(reason), why, server_reference });
                }
                return Err(End::Lost { failure: Failure::Disconnected(reason), why, by: blames(reason) });
            }
            Event::Message(message) => self.message(message)?,
            other => debug!("{other:?}"),
        }
        Ok(())
    }

    fn acknowledged(&mut self, link: &mut Link, id: PacketId, reason: Reason, text: Option<&str>) {
        let words = || text.map(|text| format!(": {text}")).unwrap_or_default();
        if let Some((notice, changed)) = self.side.acknowledged(id, !reason.is_error()) {
            self.innocent(link, &Exchange::Notice(notice.topic.clone()));
            if reason.is_error() {
                warn!("the broker refuses {}, {reason}{}", notice.topic, words());
            }
            if let Some(token) = notice.answers {
                self.intake.answered(token);
            }
            if changed {
                self.metas_changed = true;
            }
            return;
        }
        if !reason.is_error() {
            if self.session.takes_puback_for_qos_2() {
                let broker = self.status.borrow().broker.clone().unwrap_or_default();
                self.quirks.puback_to_qos_2(&broker);
            }
            self.delivered(link, id);
            return;
        }
        let Some(origin) = self.window.finished(id) else { return };
        let number = origin.number;
        self.innocent(link, &Exchange::Message(number));
        let refused = self.refusals.get(&number).copied().unwrap_or(0) + 1;
        let for_now = matches!(
            reason,
            Reason::UNSPECIFIED_ERROR | Reason::IMPLEMENTATION_SPECIFIC_ERROR | Reason::QUOTA_EXCEEDED
        );
        if for_now && refused < REFUSALS_MAX {
            warn!(
                "the broker refuses message {number} for now, {reason}{}: attempt {refused} of {REFUSALS_MAX}",
                words()
            );
            self.refusals.insert(number, refused);
            link.paused_until = Some(clock::now() + REFUSAL_PAUSE * u32::from(refused));
            link.rewind = true;
        } else {
            error!("the broker refuses message {number} for good, {reason}{}", words());
            let is_size = reason == Reason::PACKET_TOO_LARGE;
            link.rewind |= self.refuse(&origin, if is_size { GapReason::TooLarge } else { GapReason::Rejected });
        }
    }

    fn delivered(&mut self, link: &mut Link, id: PacketId) {
        if let Some(origin) = self.window.finished(id) {
            self.innocent(link, &Exchange::Message(origin.number));
            self.refusals.remove(&origin.number);
            self.bare_gaps.remove(&origin.number);
            self.status.send_modify(|status| status.acknowledged += 1);
            self.step(Step::done(origin.number));
        }
    }
}
