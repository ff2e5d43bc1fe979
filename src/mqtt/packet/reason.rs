//! Reason codes of MQTT 5.0, by name. Return codes of 3.1.1 are mapped to them where they are decoded.

use std::fmt;

/// A reason code. Below 0x80 it means success, from there on failure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason(u8);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl Reason {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// The standard's name for it; `None` for a code that it does not define.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// Success, normal disconnection, or granted QoS 0.
    SUCCESS = 0x00, "success";
    /// SUBACK: granted, QoS 1.
    GRANTED_QOS_1 = 0x01, "granted QoS 1";
    /// SUBACK: granted, QoS 2.
    GRANTED_QOS_2 = 0x02, "granted QoS 2";
    /// DISCONNECT of a client: the server shall publish the will all the same.
    DISCONNECT_WITH_WILL = 0x04, "disconnect with will message";
    /// Accepted, but nobody subscribes to it.
    NO_MATCHING_SUBSCRIBERS = 0x10, "no matching subscribers";
    /// UNSUBACK: there was no such subscription.
    NO_SUBSCRIPTION_EXISTED = 0x11, "no subscription existed";
    /// AUTH: another step follows.
    CONTINUE_AUTHENTICATION = 0x18, "continue authentication";
    /// AUTH: authenticate again on a standing connection.
    REAUTHENTICATE = 0x19, "re-authenticate";
    /// Not said more precisely.
    UNSPECIFIED_ERROR = 0x80, "unspecified error";
    /// The packet could not be read.
    MALFORMED_PACKET = 0x81, "malformed packet";
    /// The packet does not fit here.
    PROTOCOL_ERROR = 0x82, "protocol error";
    /// The receiver does not want it, for a reason of its own.
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83, "implementation specific error";
    /// CONNACK: another protocol version, please.
    UNSUPPORTED_PROTOCOL_VERSION = 0x84, "unsupported protocol version";
    /// CONNACK: the client identifier is not allowed.
    CLIENT_IDENTIFIER_NOT_VALID = 0x85, "client identifier not valid";
    /// CONNACK: wrong user name or password.
    BAD_USER_NAME_OR_PASSWORD = 0x86, "bad user name or password";
    /// Not allowed to do this.
    NOT_AUTHORIZED = 0x87, "not authorized";
    /// CONNACK: not now.
    SERVER_UNAVAILABLE = 0x88, "server unavailable";
    /// Overloaded.
    SERVER_BUSY = 0x89, "server busy";
    /// Locked out by the operator.
    BANNED = 0x8A, "banned";
    /// The server ends.
    SERVER_SHUTTING_DOWN = 0x8B, "server shutting down";
    /// Unknown authentication method, or not the one of CONNECT.
    BAD_AUTHENTICATION_METHOD = 0x8C, "bad authentication method";
    /// Nothing was heard for 1.5 times the keep-alive.
    KEEP_ALIVE_TIMEOUT = 0x8D, "keep alive timeout";
    /// Another client connected with the same identifier.
    SESSION_TAKEN_OVER = 0x8E, "session taken over";
    /// A topic filter is well formed and not accepted.
    TOPIC_FILTER_INVALID = 0x8F, "topic filter invalid";
    /// A topic name is well formed and not accepted.
    TOPIC_NAME_INVALID = 0x90, "topic name invalid";
    /// The identifier is already in use: the two sides disagree about the session.
    PACKET_IDENTIFIER_IN_USE = 0x91, "packet identifier in use";
    /// The identifier is not known: the two sides disagree about the session.
    PACKET_IDENTIFIER_NOT_FOUND = 0x92, "packet identifier not found";
    /// More in flight than was allowed.
    RECEIVE_MAXIMUM_EXCEEDED = 0x93, "receive maximum exceeded";
    /// Topic alias zero, unknown, or above the maximum.
    TOPIC_ALIAS_INVALID = 0x94, "topic alias invalid";
    /// Larger than the receiver takes.
    PACKET_TOO_LARGE = 0x95, "packet too large";
    /// Too many messages in too little time.
    MESSAGE_RATE_TOO_HIGH = 0x96, "message rate too high";
    /// A limit of the operator.
    QUOTA_EXCEEDED = 0x97, "quota exceeded";
    /// The operator closed the connection.
    ADMINISTRATIVE_ACTION = 0x98, "administrative action";
    /// The payload is not what its format indicator says.
    PAYLOAD_FORMAT_INVALID = 0x99, "payload format invalid";
    /// The server keeps no messages.
    RETAIN_NOT_SUPPORTED = 0x9A, "retain not supported";
    /// The server's maximum is lower.
    QOS_NOT_SUPPORTED = 0x9B, "QoS not supported";
    /// For now, the server named in the server reference.
    USE_ANOTHER_SERVER = 0x9C, "use another server";
    /// For good, the server named in the server reference.
    SERVER_MOVED = 0x9D, "server moved";
    /// No `$share` here.
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E, "shared subscriptions not supported";
    /// Too many connections in too little time.
    CONNECTION_RATE_EXCEEDED = 0x9F, "connection rate exceeded";
    /// The longest time that was granted to this connection is over.
    MAXIMUM_CONNECT_TIME = 0xA0, "maximum connect time";
    /// No subscription identifiers here.
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1, "subscription identifiers not supported";
    /// No `+` or `#` here.
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2, "wildcard subscriptions not supported";
}

impl Reason {
    /// Any code, known or not.
    pub const fn new(code: u8) -> Self {
        Self(code)
    }

    /// The number on the wire.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// 0x80 and above.
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// From a return code of a 3.1.1 CONNACK (0 to 5).
    pub(crate) const fn from_v311_connack(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::SUCCESS,
            1 => Self::UNSUPPORTED_PROTOCOL_VERSION,
            2 => Self::CLIENT_IDENTIFIER_NOT_VALID,
            3 => Self::SERVER_UNAVAILABLE,
            4 => Self::BAD_USER_NAME_OR_PASSWORD,
            5 => Self::NOT_AUTHORIZED,
            _ => return None,
        })
    }

    /// The return code of a 3.1.1 CONNACK; what 3.1.1 has no code for is "server unavailable".
    pub(crate) const fn to_v311_connack(self) -> u8 {
        match self {
            Self::SUCCESS => 0,
            Self::UNSUPPORTED_PROTOCOL_VERSION => 1,
            Self::CLIENT_IDENTIFIER_NOT_VALID => 2,
            Self::BAD_USER_NAME_OR_PASSWORD => 4,
            Self::NOT_AUTHORIZED => 5,
            _ => 3,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02X})", self.name().unwrap_or("unknown reason"), self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
