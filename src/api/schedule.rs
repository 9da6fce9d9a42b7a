//! The form of schedules, as far as the API server can check it at admission: five fields of cron, each within its bounds. The controllers
//! check which days a month has, and which time zones there are (`policy::windows`).

/// The message for a schedule of another form.
pub const FORM: &str = "schedule is five fields of cron: minute (0-59), hour (0-23), day of month (1-31), month (1-12 or JAN-DEC) and day of week \
    (0-7 or SUN-SAT), for example 0 17 * * 5; no seconds, no year, and the time zone is in timeZone";

/// The message for a time zone of another form.
pub const ZONE_FORM: &str = "timeZone is a name of the IANA database, for example Europe/Prague, or UTC";

/// One field: a list of `*`, values and ranges, each with a step where one is wanted.
fn field(value: &str, other: &str) -> String {
    let item = format!("([*]|({value})(-({value}))?)(/[0-9]{{1,4}})?{other}");
    format!("({item})(,({item}))*")
}

/// The CEL rule that a field holds a schedule of that form.
pub fn rule(path: &str) -> String {
    let minute = field("0*[0-5]?[0-9]", "");
    let hour = field("0*([01]?[0-9]|2[0-3])", "");
    let day = field("L|0*([1-9]|[12][0-9]|3[01])W?", "");
    let month = field("0*([1-9]|1[0-2])|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC", "");
    let weekday = field("0*[0-7]|SUN|MON|TUE|WED|THU|FRI|SAT", "(L|#[1-5])?");
    format!("{path}.upperAscii().matches('^ *{minute} +{hour} +{day} +{month} +{weekday} *$')")
}

/// The CEL rule that an optional field holds what may be a time zone.
pub fn zone_rule(path: &str) -> String {
    format!("!has({path}) || {path}.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$')")
}
