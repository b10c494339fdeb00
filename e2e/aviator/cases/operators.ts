/**
 * One script per line, by the operator they are about; evaluated in the environment of `env.ts`.
 */
export const OPERATOR_CASES = String.raw`
true && true
true && false
false && nil
nil && true
event.nope && true
event.triggerable && user.country == "US"
true && 1
true && event.nope
event.triggerable && event.n > 3 && user.age < 40
false && 1 / 0 == 1
true || false
false || true
true || nil
nil || true
false || nil
false || 1
event.nope || true
user.country == "CA" || user.country == "US" || user.country == "MX"
false || false
true && false || true
true || true && false
!true
!false
!!true
!nil
!1
!"a"
!event.triggerable
!event.nope
!(1 > 2)
!true == false
1 == 1
1 == 1.0
1 == 2
"a" == 'a'
"a" == 1
nil == nil
nil == false
event.nope == nil
event.nul == nil
event.tags == event.tags
event.tags == seq.list("a", "b")
event.tags == seq.list("a")
event.tags == nil
true == 1
/a/ == /a/
/a/ == /b/
event.nested == event.nested
seq.map("a", 1) == seq.map("a", 1)
seq.set(1, 2) == seq.set(2, 1)
event.n == 7.0
event.amount == 12.5
range(0, 1) == range(0, 1)
1 < 2 == true
0.0 == 0
-0.0 == 0
math.sqrt(-1) == math.sqrt(-1)
1 != 1
1 != 2
"a" != 1
nil != 1
nil != nil
event.nope != nil
event.s != "hello"
event.tags != nil
true != false
user.country != "US"
1 < 2
2 < 1
1 < 1.5
"a" < "b"
"b" < "a"
"a" < 1
nil < 1
1 < nil
nil < nil
nil < false
true < false
event.n < 8
event.tags < 1
1 <= 1
2 <= 1
"a" <= "a"
nil <= nil
nil <= 1
1.5 <= 1
true <= true
"a" <= nil
1 <= "a"
2 > 1
1 > 2
nil > 1
1 > nil
"a" > "B"
"10" > "9"
true > false
event.amount > 12
event.tags > event.tags
1 > true
2 >= 2
1 >= 2
nil >= nil
"b" >= "a"
1.0 >= 1
event.nope >= 1
event.s >= 1
user.age >= 18 && user.country == 'US'
"x.av" =~ /^(.*)\.av$/
"x.av" =~ /^(.*)\.av$/ ? $1 : "no"
"xx.av" =~ /x/
nil =~ /a/
1 =~ /1/
"a" =~ "a"
/a/ =~ "a"
"A" =~ /(?i)a/
"a/b" =~ /a\/b/
"" =~ /x?/
"ab" =~ /(a)(b)(c)?/ ? $3 : 0
"ab" =~ /(a)(b)/ && $1 == "a" && $2 == "b"
"ab" =~ /(a)(b)/ ? $0 : 0
event.s =~ /h.*o/
event.nope =~ /h.*o/
event.tags =~ /a/
"a1b2" =~ /[a-z0-9]+/
"a" =~ /b/ || "b" =~ /b/
$1
if ("ab" =~ /(a)(b)/) { $2 }
1 + 2
1 + 2.5
0.1 + 0.2
"a" + "b"
"a" + 1
1 + "a"
"a" + 1.0
"a" + nil
nil + "a"
nil + nil
1 + nil
"a" + true
true + "a"
true + 1
true + true
"a" + event.tags
event.tags + "a"
event.tags + 1
"x" + /a/
/a/ + "x"
event.s + event.n
event.n + event.s
event.amount + event.n
event.nope + "x"
"t" + tuple
5 - 3
5 - 7
5.5 - 1
1 - nil
"a" - 1
1 - "a"
- 5 + 3
--5
-event.n
-event.amount
-"a"
-nil
-true
5 - -3
3 * 4
3 * 1.5
1.5 * 2
-3 * 4
3 * nil
"a" * 3
event.n * event.n
1 + 2 * 3
7 / 2
-7 / 2
7.0 / 2
6.0 / 2
7 / 0
7.0 / 0
-7.0 / 0
0.0 / 0
7 / nil
event.n / 2
event.n / 2.0
6.0 / 4 / 2
9007199254740991 / 2
7 % 3
-7 % 3
7 % -3
7.5 % 2
7 % 0
7 % 0.0
-6 % 3
event.n % 2 == 1
nil % 2
2 ** 10
2 ** -1
2 ** 0.5
2.0 ** 2
-2 ** 2
2 ** 3 ** 2
0 ** 0
1 + 2 * 3 ** 2
2 ** nil
"a" ** 2
2 ** 62
1 & 3
6 & 3
-1 & 255
1.0 & 1
1 & nil
true & 1
event.n & 1
4294967296 & 4294967297
1 | 2
5 | 3
-1 | 0
1 | 1.0
nil | 1
1 | 2 ^ 3 & 4
event.n | 8
4294967296 | 1
1 ^ 3
5 ^ 5
-1 ^ 0
1 ^ 1.5
1 ^ nil
event.n ^ 1
4294967296 ^ 1
"a" ^ 1
~1
~0
~-1
~1.5
~nil
~"a"
~event.n
~4294967296
1 << 3
1 << 40
1 << 64
-1 << 2
1 << nil
1.5 << 1
1 << 2 + 1
event.n << 1
8 >> 1
-8 >> 1
1099511627776 >> 40
8 >> 64
8 >> nil
"a" >> 1
event.n >> 1
-1 >> 63
8 >>> 1
-8 >>> 60
-1 >>> 32
8 >>> 0
8 >>> nil
1.5 >>> 1
event.n >>> 1
-1 >>> 63
true ? 1 : 2
false ? 1 : 2
nil ? 1 : 2
1 ? 1 : 2
true ? false ? 1 : 2 : 3
true ? 1 : false ? 2 : 3
false ? 1 : false ? 2 : 3
event.n > 5 ? "big" : "small"
true ? nil : 1
event.tags[0]
event.tags[1]
event.tags[5]
event.tags[-1]
event.tags["a"]
event.tags[1.9]
event.nested["x"]
event["n"]
event["nope"]
event.nested["x"]["y"]
event.s[0]
event.nope[0]
history[0]['event_name']
history[event.zero]["n"]
tuple(1, 2)[0]
history[0].event_name
seq.list(1, 2)[1]
seq.map("a", 1)["a"]
(1 + 2) * 3
((1))
(1 + 2
a = 5; a * 2
a = 1; a = a + 1; a
a = b = 3; a
a = 5
let a = seq.list(1, 2); a[0] = 5; a
let m = seq.map("a", 1); m.a = 2; m
let m = seq.map("a", 1); m["b"] = 2; m["b"]
let a = tuple(1, 2); a[1] = 9; a[1]
event.nested.x.y
event.nested.x.y.z
event.nope.foo.bar
visit.foo
visit.foo.bar
event.__proto__
event.constructor
event.toString
event.tags.length
event.s.length
user.age
1 == 1 & 1
9007199254740991 + 1
`;
