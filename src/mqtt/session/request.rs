//! CONNECT, SUBSCRIBE, UNSUBSCRIBE, AUTH, DISCONNECT: what the owner asks for.

use std::time::Duration;

use crate::mqtt::packet::property::id as property_id;
use crate::mqtt::packet::{
    Auth, Connect, Disconnect, EncodeError, Filter, FilterList, LastWill, Packet, PacketId, Property, PropertyList,
    Reason, Subscribe, Topics, Unsubscribe, Version, topic,
};

use super::sabotage::{self, Fault};
use super::{Asked, Options, Phase, REQUEST_IDS, REQUESTS_MAX, RequestError, Session};

/// A SUBSCRIBE or UNSUBSCRIBE that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) id: PacketId,
    pub(super) is_subscribe: bool,
    pub(super) filters: usize,
}

/// What the caller may add to CONNECT: all else follows from its options.
const CONNECT_EXTRAS: u64 = crate::mqtt::packet::property::bits(&[
    property_id::REQUEST_PROBLEM_INFORMATION,
    property_id::REQUEST_RESPONSE_INFORMATION,
    property_id::USER,
]);

pub(super) fn put_connect(
    options: &Options,
    asked: &Asked,
    clean_start: bool,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let (mut properties, mut will_properties) = (PropertyList::new(), PropertyList::new());
    if options.version == Version::V5 {
        connect_properties(options, asked, &mut properties)?;
        if let Some(will) = &options.will {
            if will.delay_s > 0 {
                will_properties.push(Property::WillDelay(will.delay_s))?;
            }
            will_properties.extend(will.properties.as_properties())?;
        }
    }
    let will = options.will.as_ref().map(|will| LastWill {
        topic: &will.topic,
        payload: &will.payload,
        qos: will.qos,
        retain: will.retain,
        properties: will_properties.as_properties(),
    });
    Connect {
        version: options.version,
        clean_start,
        keep_alive_s: options.keep_alive_s,
        client_id: &options.client_id,
        will,
        username: options.username.as_deref(),
        password: options.password.as_deref(),
        properties: properties.as_properties(),
    }
    .encode(out)
}

fn connect_properties(options: &Options, asked: &Asked, list: &mut PropertyList) -> Result<(), EncodeError> {
    let foreign = options.properties.as_properties().present() & !CONNECT_EXTRAS;
    if foreign != 0 {
        return Err(EncodeError::Property(u8::try_from(foreign.trailing_zeros()).unwrap_or(u8::MAX)));
    }
    if options.session_expiry_s > 0 {
        list.push(Property::SessionExpiry(options.session_expiry_s))?;
    }
    list.push(Property::ReceiveMaximum(asked.receive_maximum))?;
    list.push(Property::MaximumPacketSize(asked.maximum_packet_size))?;
    if asked.topic_alias_maximum > 0 {
        list.push(Property::TopicAliasMaximum(asked.topic_alias_maximum))?;
    }
    if let Some(authentication) = &options.authentication {
        list.push(Property::AuthenticationMethod(&authentication.method))?;
        if let Some(data) = &authentication.data {
            list.push(Property::AuthenticationData(data))?;
        }
    }
    list.extend(options.properties.as_properties())
}

impl Session {
    /// Subscribes. `properties`: a subscription identifier, user properties (5.0). The answer is
    /// [`super::Event::Subscribed`]; a request that waits when the connection ends is forgotten.
    pub fn subscribe(
        &mut self,
        now: Duration,
        filters: &[Filter<'_>],
        properties: &PropertyList,
    ) -> Result<PacketId, RequestError> {
        self.may_request()?;
        let mut list = FilterList::new();
        for filter in filters {
            self.check_offered(filter.filter)?;
            list.push(filter).map_err(|_| RequestError::Filter)?; // also [MQTT-3.8.3-4]
        }
        if filters.is_empty() {
            return Err(RequestError::Filter); // [MQTT-3.8.3-2]
        }
        let properties = properties.as_properties();
        let has_identifier = properties.present() & (1 << property_id::SUBSCRIPTION_IDENTIFIER) != 0;
        if has_identifier && !self.limits.subscription_identifiers {
            return Err(RequestError::NotOffered(Reason::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED));
        }
        let id = self.request_id();
        self.try_say(&Packet::Subscribe(Subscribe { id, properties, filters: list.as_filters() }))?;
        self.requested(now, Request { id, is_subscribe: true, filters: filters.len() });
        Ok(id)
    }

    /// Unsubscribes. The answer is [`super::Event::Unsubscribed`]; a request that waits when the connection ends is
    /// forgotten.
    pub fn unsubscribe(&mut self, now: Duration, filters: &[&str]) -> Result<PacketId, RequestError> {
        self.may_request()?;
        if filters.is_empty() {
            return Err(RequestError::Filter); // [MQTT-3.10.3-2]
        }
        let mut buffer = Vec::new();
        let list = Topics::build(filters, &mut buffer).map_err(|_| RequestError::Filter)?;
        let id = self.request_id();
        let properties = PropertyList::new();
        let packet = Unsubscribe { id, properties: properties.as_properties(), filters: list };
        self.try_say(&Packet::Unsubscribe(packet))?;
        self.requested(now, Request { id, is_subscribe: false, filters: filters.len() });
        Ok(id)
    }

    /// The next step of an enhanced authentication: [`Reason::CONTINUE_AUTHENTICATION`] as the answer to
    /// [`super::Event::Authenticate`], or [`Reason::REAUTHENTICATE`] on a standing connection. [MQTT-4.12.0-3]
    pub fn authenticate(&mut self, reason: Reason, data: Option<&[u8]>) -> Result<(), RequestError> {
        let in_time = match self.phase {
            Phase::Connecting { .. } => reason == Reason::CONTINUE_AUTHENTICATION,
            Phase::Connected => true,
            _ => false,
        };
        let Some(method) = self.asked.method.clone().filter(|_| in_time) else {
            return Err(RequestError::NotConnected);
        };
        // [MQTT-4.12.0-5]: the method is always that of CONNECT.
        let mut properties = PropertyList::new().with(Property::AuthenticationMethod(&method))?;
        if let Some(data) = data {
            properties.push(Property::AuthenticationData(data))?;
        }
        self.try_say(&Packet::Auth(Auth { reason, properties: properties.as_properties() }))
    }

    /// Queues DISCONNECT behind what is already queued; nothing is taken any more. `session_expiry_s` replaces that of
    /// CONNECT (5.0). 3.1.1 knows no reason: its DISCONNECT always drops the will.
    pub fn disconnect(&mut self, reason: Reason, session_expiry_s: Option<u32>) {
        if !matches!(self.phase, Phase::Connecting { .. } | Phase::Connected) {
            return;
        }
        // A session that was to end with the connection cannot be kept by DISCONNECT. [MQTT 3.14.2.2.2]
        let expiry = session_expiry_s.filter(|&seconds| seconds == 0 || self.asked.session_expiry_s > 0);
        let mut list = PropertyList::new();
        if let Some(seconds) = expiry {
            // A first property of a list is never refused.
            let _ = list.push(Property::SessionExpiry(seconds));
        }
        self.say_last(Disconnect { reason, properties: list.as_properties() });
        self.phase = Phase::Leaving;
    }

    /// [MQTT-3.14.4-1]
    pub(super) fn say_last(&mut self, packet: Disconnect<'_>) {
        let version = self.asked.version;
        let out = self.output.last();
        if packet.encode(version, out).is_err() {
            // A reason that only servers may give, or none that DISCONNECT can bear.
            let plain = Disconnect { reason: Reason::UNSPECIFIED_ERROR, properties: packet.properties };
            let result = plain.encode(version, out);
            debug_assert!(result.is_ok(), "a plain DISCONNECT can be encoded");
        }
    }

    fn may_request(&self) -> Result<(), RequestError> {
        if self.phase != Phase::Connected {
            return Err(RequestError::NotConnected);
        }
        if self.requests.len() >= REQUESTS_MAX { Err(RequestError::Full) } else { Ok(()) }
    }

    fn check_offered(&self, filter: &str) -> Result<(), RequestError> {
        if topic::is_shared(filter) && !self.limits.shared_subscriptions {
            return Err(RequestError::NotOffered(Reason::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED));
        }
        if filter.contains(['+', '#']) && !self.limits.wildcard_subscriptions {
            return Err(RequestError::NotOffered(Reason::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED));
        }
        Ok(())
    }

    /// An identifier that no request bears. [MQTT-2.2.1-3]
    fn request_id(&mut self) -> PacketId {
        loop {
            let value = self.next_request_id;
            self.next_request_id = if sabotage::on(Fault::RequestIdInUse) {
                value
            } else if value >= *REQUEST_IDS.end() {
                *REQUEST_IDS.start()
            } else {
                value.saturating_add(1)
            };
            // There are more identifiers than `REQUESTS_MAX`, so this ends; none of them is 0.
            if let Some(id) = PacketId::new(value)
                && (!self.requests.iter().any(|request| request.id == id) || sabotage::on(Fault::RequestIdInUse))
            {
                return id;
            }
        }
    }

    fn requested(&mut self, now: Duration, request: Request) {
        self.requests.push(request);
        self.timers.waiting(now, true, false);
    }
}
