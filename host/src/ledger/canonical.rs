//! JSON in its one canonical form (RFC 8785), so that a hash of it means its content and not its layout.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// Above this, not every integer is a number of JSON (RFC 7493).
const SAFE_MAX: u64 = 1 << 53;

/// A value as RFC 8785 writes it: no blanks, members by their names' UTF-16, numbers as ECMAScript has them.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

fn write(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => write_number(text, number),
        Value::String(string) => write_string(text, string),
        Value::Array(values) => {
            text.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(text, value);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_string(text, name);
                text.push(':');
                write(text, value);
            }
            text.push('}');
        }
    }
}

/// The escapes of `serde_json` are those of the RFC.
fn write_string(text: &mut String, string: &str) {
    text.push_str(&Value::from(string).to_string());
}

fn write_number(text: &mut String, number: &Number) {
    if let Some(integer) = number.as_i64()
        && integer.unsigned_abs() <= SAFE_MAX
    {
        let _ = write!(text, "{integer}");
        return;
    }
    let number = number.as_f64().unwrap_or_default();
    if number == 0.0 {
        text.push('0');
        return;
    }
    // Rust's shortest digits are those of ECMAScript; only where the point stands differs.
    let shortest = format!("{:e}", number.abs());
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits = digits.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if number < 0.0 {
        text.push('-');
    }
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let point = exponent + 1;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    let (before, after) =
        digits.split_at(usize::try_from(point.clamp(0, count)).unwrap_or_default());
    match point {
        _ if count <= point && point <= 21 => {
            let _ = write!(text, "{digits}{}", zeros(point - count));
        }
        1..=21 => {
            let _ = write!(text, "{before}.{after}");
        }
        -5..=0 => {
            let _ = write!(text, "0.{}{digits}", zeros(-point));
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let _ = write!(text, "{first}{point}{rest}e{exponent:+}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_come_out_as_it_says() {
        let given = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let wanted = concat!(
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
            r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        assert_eq!(canonical(&serde_json::from_str(given).unwrap()), wanted);
        // Section 3.2.3: by UTF-16, not by UTF-8.
        let given = "{\"\u{20ac}\":1,\"\\r\":2,\"\u{fb33}\":3,\"1\":4,\"\u{1f600}\":5,\"\u{80}\":6,\"\u{f6}\":7}";
        let wanted = "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}";
        assert_eq!(canonical(&serde_json::from_str(given).unwrap()), wanted);
    }

    #[test]
    fn numbers_are_written_as_in_appendix_b() {
        for (bits, wanted) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        ] {
            let number = Value::from(f64::from_bits(bits));
            assert_eq!(canonical(&number), wanted, "{bits:x}");
        }
        assert_eq!(canonical(&Value::from(u64::MAX)), "18446744073709552000");
        assert_eq!(canonical(&Value::from(-3)), "-3");
    }
}
