//! The findings themselves. A number is never given to another finding: a new one comes at the end, and one that is no
//! longer found keeps its place.

use super::{About, Severity};

/// Defines `Number` from what is known of each.
macro_rules! numbers {
    ($($number:literal $name:ident $severity:ident $title:literal
        means $meaning:literal found $found:literal fix $fix:literal)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Number {
            $($name = $number,)*
        }

        impl Number {
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            pub const fn about(self) -> About {
                match self {
                    $(Self::$name => About {
                        title: $title,
                        severity: Severity::$severity,
                        meaning: $meaning,
                        found: $found,
                        fix: $fix,
                    },)*
                }
            }
        }
    };
}

numbers! {
    1 Configuration Wrong "the configuration is not valid"
        means "A key is unknown, missing or has a value that it can't have, or the file can't be read. A worker does not start."
        found "The file and the variables `USHER_…` are read as a worker reads them; each error is a finding of its own."
        fix "Correct the key at the place that is named; `docs/configuration.md` lists all keys with their values."

    2 RepeatedPath Warning "base_url already ends in the API's path"
        means "The kind's own path comes after `base_url`, so requests go to a path that repeats a part, and most providers answer 404."
        found "The request that would read or write a user is built and not sent: the end of `base_url` is the beginning of what follows it."
        fix "Remove the API's path from the end of provider.base_url. If the provider's path really repeats it, leave it as it is."

    3 ClearText Warning "the token travels in clear text"
        means "`base_url` or `token_url` is http:// beyond this machine: anyone on the network path can read the token and users' data."
        found "From the configuration, where provider.insecure allows it."
        fix "Write https:// in `base_url` and `token_url`."

    4 UnusableProxy Warning "the environment names a proxy that usher can't use"
        means "A SOCKS proxy is configured in the environment for the provider's host, and usher speaks to HTTP proxies alone."
        found "From HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, for the hosts of `base_url` and `token_url`."
        fix "Name an HTTP proxy, or add the host to NO_PROXY."

    5 OpenSecret Warning "a file with a secret is open to others"
        means "Other users of this machine may read the token's or the client secret's file."
        found "From the file's permissions."
        fix "Give the file to the worker's user alone: chmod 600."

    6 LongWindow Warning "the window outlasts the consumer time-out"
        means "At the configured rate, what a worker holds takes longer than the broker lets a consumer hold it. The broker then takes all of it back, and the worker begins again."
        found "From broker.prefetch, the quota, broker.consumer_timeout and the broker's version; before RabbitMQ 4.0 the time-out is the broker's own, 30 minutes unless rabbitmq.conf says otherwise."
        fix "Set broker.prefetch to the number that is named, or less, on all workers."

    7 LongHold Warning "broker.hold_max is too long"
        means "A worker would hold commands for so long that the broker takes them back first."
        found "broker.hold_max plus five minutes is compared with the consumer time-out."
        fix "Keep broker.hold_max at least five minutes below the consumer time-out, or raise the time-out."

    8 BrokerUnreachable OutOfReach "the broker can't be reached"
        means "No connection is made at any address of broker.url, or one was lost on the way. A worker waits for the broker."
        found "Each address is connected to, with the configured time-outs."
        fix "See that RabbitMQ runs, and that the address, the port and the firewall between are right."

    9 BrokerRefuses Wrong "the broker refuses the worker"
        means "The broker answers, but refuses the login, the vhost, TLS or a permission."
        found "Each address is connected to as a worker does it, and the topology is looked at."
        fix "Correct the user, the password, the vhost or the address in broker.url, or grant the permission that is named."

    10 AddressUnreachable Warning "one of the broker's addresses can't be reached"
        means "Another address answers, and the worker uses that one. If it fails too, there is none left."
        found "Each address of broker.url is connected to."
        fix "See that this node runs, or remove its address."

    11 FaultyRelease Warning "this version of RabbitMQ can stop delivering"
        means "RabbitMQ 4.3.0 to 4.3.5 never delivers again from a queue whose consumers have all met the consumer time-out."
        found "From the version that the broker sends before the login."
        fix "Upgrade RabbitMQ to 4.3.6 or later."

    12 BrokerCertificate Warning "the broker's certificate ends soon"
        means "In less than three weeks no worker will be able to connect."
        found "From the certificate that an amqps:// address shows."
        fix "Renew the certificate of RabbitMQ's TLS listener."

    13 TopologyMissing Advice "objects of the topology are missing"
        means "Exchanges or queues are not on the broker yet. A worker declares them when it starts; until then commands for the provider go to user.unroutable."
        found "Each object is declared passively. Bindings can't be looked at."
        fix "Run `usher check --fix` or `usher topology declare`."

    14 TopologyDiffers Wrong "the topology differs from the configuration"
        means "An object on the broker has other arguments than the configuration asks for. A worker refuses to start on it."
        found "Each object is declared passively with the arguments that it should have. Policies do not show there."
        fix "Configure what the broker has; or drain the object, delete it and run `usher topology declare`."

    15 OlderTopology Warning "an earlier version left queues without leases"
        means "Workers of that version know no leases and would work beside those of this one, out of order."
        found "There are command queues, and not all leases or the fleet's exchange."
        fix "Stop the workers of the earlier version before anything declares what is missing; then run `usher topology declare`."

    16 Unroutable Warning "messages reached no queue"
        means "user.unroutable holds what was published and could not be routed: commands for a provider that is misspelt or not declared, or whose binding is gone."
        found "The queue's depth is asked for."
        fix "Look at their routing keys; run `usher topology declare` with that provider's configuration; then publish them again, or move them back under the exchange and routing key that they have, in their order."

    17 NobodyWorks Warning "commands are ready and no worker answers"
        means "Commands wait in the provider's queues, and nobody takes them."
        found "The depths of the command queues, and a question to all workers of the provider over the broker, which each answers within a second."
        fix "Start a worker with `usher run`; if one runs, see what it logs."

    18 LongWait Warning "a command has waited for long"
        means "The oldest command that a worker has in hand has waited for the same cause for more than an hour."
        found "The workers are asked. A command that no worker has yet can't be seen without taking it out of its queue, so its age is not known."
        fix "`usher why` with the command's id tells what ends the wait; `docs/operating.md` lists the causes."

    19 CallsPaused Warning "the worker's calls are paused"
        means "The worker on this machine makes no calls: an outage, refused credentials, a refused configuration, or a long wait that the provider asked for."
        found "`/readyz` on admin.listen."
        fix "Correct what the detail names. The worker goes on by itself; `usher resume` makes it try at once."

    20 Stalled Warning "the worker stands still"
        means "There are commands and no pause, but none has ended for worker.stalled_after."
        found "`/readyz` on admin.listen."
        fix "See what most of its commands wait for: `usher waiting`."

    21 GuardShut Warning "too many commands would be dead letters"
        means "The guard before the dead letters is shut: commands wait instead of failing, because a wrong configuration would fail all of them."
        found "`/readyz` on admin.listen."
        fix "Look at the reason that the worker logs, correct what is wrong, and run `usher resume`."

    22 WindowFull Warning "the worker's window is full"
        means "The unsettled commands fill the window, none of them may call, and more are ready in the queue. Often it is one user's backlog."
        found "`/readyz` on admin.listen."
        fix "See what they wait for with `usher waiting`; a larger broker.prefetch, the same on all workers, gives more room."

    23 WorkerCutOff Warning "the worker can't use the broker"
        means "One of the worker's connections is down, the outcome log can't be read, or nobody known holds the leases."
        found "`/readyz` on admin.listen."
        fix "Look at RabbitMQ as the detail says: alarms, the queue's majority, read permission for user.outcomes.log, consumers of the usher.lease queues."

    24 OrderedPause Warning "an operator paused the provider"
        means "No calls go out, or none for bulk traffic, on any worker, until the pause ends or is lifted."
        found "The orders in force are read from the stream `usher.orders.<provider>`."
        fix "`usher resume`, when the reason is gone."

    25 OrderedPace Advice "an operator pinned the pace"
        means "The fleet keeps this pace instead of the one that it would learn; the configured quota stays the upper bound."
        found "The orders in force are read from the stream `usher.orders.<provider>`."
        fix "`usher pace unpin`, when it is no longer needed."

    26 BatchesPaused Advice "batches are paused"
        means "Their commands wait in the workers and use the window until somebody resumes or cancels them."
        found "The orders in force are read from the stream `usher.orders.<provider>`."
        fix "`usher batch resume ID`, or `usher batch cancel ID --yes`."

    27 ProviderUnreachable OutOfReach "the provider can't be reached"
        means "The provider or its token endpoint does not answer, or with an error of its own. The detail says which: refused, name unknown, time-out, certificate, a status."
        found "A user that is unlikely to exist is read, and a token is fetched first where one is needed."
        fix "Correct the address, or see the provider's status page."

    28 Credentials Wrong "the provider refuses the credentials"
        means "No token can be got, or the provider does not accept it for reading users."
        found "The token is fetched, and a user that is unlikely to exist is read with it."
        fix "Write a valid token, correct [provider.auth], or grant the permission."

    29 RefusedConfiguration Wrong "the provider refuses the form of the request"
        means "The answer is not the API's own, or says that the request can't be meant: often the address is not the API's, or a gateway stands between."
        found "A user that is unlikely to exist is read."
        fix "Correct [provider] as the detail says; `usher check --show-request` shows a request."

    30 Abilities Wrong "the provider can't do what is needed"
        means "By what it says of itself, the provider can apply no command as configured."
        found "The provider's own description is read, where its kind has one."
        fix "Configure what it can do, as the detail says."

    31 ProviderCertificate Warning "the provider's certificate ends soon"
        means "In less than three weeks the worker will refuse the connection."
        found "From the certificate that the provider or its token endpoint shows on the connection that was used."
        fix "Ask the provider, or renew the certificate of the proxy that stands for it."

    32 ExpiredCertificate OutOfReach "a certificate has expired"
        means "The broker, the provider or its token endpoint shows a certificate whose time is over, or this machine's clock is ahead. No connection is made."
        found "The TLS handshake is refused for that reason."
        fix "Renew the certificate, or correct this machine's clock."

    33 Skew Warning "this machine's clock differs from the provider's"
        means "One of the two clocks is wrong. A command's `expiresAt`, the end of an operator's order and the hours of a quota are compared with this machine's clock; waits that the provider asks for until a time are not."
        found "The header `Date` of an answer is compared with this machine's clock; more than 30 seconds are reported. AMQP shows no clock of the broker."
        fix "Synchronise this machine's clock (NTP), or tell the provider."

    34 LowerQuota Warning "the provider's limit is below the configured quota"
        means "The provider says that it takes fewer calls than provider.rate, so it will throttle the fleet."
        found "From the rate-limit headers of an answer, compared with provider.rate and provider.share."
        fix "Configure the quota that the provider names, or leave provider.rate out."

    35 LowerPace Advice "the provider slows the fleet down below the configured quota"
        means "The pace that held after the last slowdown is less than half of the configured quota: other clients may use it, or it is configured too high."
        found "The workers tell each other what they learned of the pace; it is listened to for a moment."
        fix "Ask the provider for the quota, and correct provider.rate or provider.share."

    36 NotChecked Advice "something could not be checked"
        means "A question of this check had no answer, so what it would find is not known."
        found "The broker, the worker or the provider refused the question or did not answer in time."
        fix "The detail says what was asked and why it failed; give the permission if one is missing."
}
