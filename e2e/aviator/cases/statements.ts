/** Keywords, literals and statements: one script per line, \n stands for a line break. */
export const STATEMENT_CASES = String.raw`
if (event.triggerable && user.country == "US") { return true; } return false;
if (event.triggerable && user.country == "CA") { return true; } return false;
if (event.triggerable && user.country == "US") { true } else { false }
if (event.triggerable && user.country == "US") return true;
if (event.triggerable && user.country == "US")
if (event.nope) { return true; } return false;
if (event.n > 3) { 5 }
if (event.n > 30) { 5 }
if (true) { 5; }
if (true) { 5; } else { 6 }
if (true) { 1 } 2
if (true) { 1 }; 2
if (true) { 1 };
if (true) { return 1; } else { return 2; } 3
if (true) { return 1; } else { return 2; }
if (false) { return 1; } else { return 2; }
if true { 1 } elsif true { 2 } else { 3 }
if false { 1 } elsif true { 2 } else { 3 }
if false { 1 } elsif false { 2 } else { 3 }
if (false) { 1 } elsif (false) { 2 }
if (false) { 1 } elsif (true) { return 2; } 9
if (event.n == 1) { "one" } elsif (event.n == 7) { "seven" } else { "other" }
if (event.n < 1) { 1 } elsif (event.n < 5) { 2 } elsif (event.n < 9) { 3 } else { 4 }
if (false) { 1 } elsif (nil) { 2 } else { 3 }
if (nil) { 1 } else { 2 }
if (1) { 1 } else { 2 }
if (true) { if (false) { 1 } else { 2 } }
if (true) { if (true) { return 7; } } 8
if (false) { 1 } else { if (true) { 3 } }
if (user.age > 18) { let x = user.age; x + 1 } else { 0 }
if (true) { } else { 1 }
if (true) { }
let x = 1; if (true) { x = 2; } x
let x = 1; if (true) { let x = 2; } x
let x = 1; { let x = 2; } x
let x = 1; { x = 2; } x
let a = 1; a
let a = 1; a + 1;
let a = 1; let a = 2; a
let a = 1; let b = a + 1; a + b
let a = 1
let a = nil; a == nil
let a = "x"; a + "#{a}"
let t = event.tags; t[0]
let a;
let = 1; 2
let if = 1; 2
{ 1 }
{ let q = 1; q }
{ let q = 1; { let q = 2; q } }
for x in range(0, 5) { x }
for x in range(0, 3) { x; }
for x in nil { x }
for x in 5 { x }
for x in "abc" { x }
for x in event.tags { x }
for i, x in seq.list(5, 6) { i + x }
for k, v in seq.map("a", 1) { k + v }
let s = 0; for x in range(0, 5) { s = s + x; } s
let s = 0; for x in range(0, 5) { s = s + x; } return s;
let s = ""; for t in event.tags { s = s + t; } s
let c = 0; for h in history { if (h.n > 1) { c = c + 1; } } c
for h in history { if (h.event_name == "b") { return true; } } return false;
for h in history { if (h.event_name == "z") { return true; } } return false;
for x in range(0, 10) { if (x == 3) { return x; } } 99
for x in range(0, 10) { if (x == 3) { break; } x }
for x in range(0, 3) { for y in range(0, 3) { if (x == 1 && y == 2) { return x * 10 + y; } } } 0
let s = 0; for x in range(0, 3) { for y in range(0, 3) { if (y == 1) { break; } s = s + 1; } } s
let s = 0; for x in range(0, 3) { for y in range(0, 3) { if (y == 1) { continue; } s = s + 1; } } s
let s=0; for x in range(0,10) { if (x == 3) { continue; } if (x > 5) { break; } s = s + x; } s
let s=0; for x in range(0, 9) { if (x % 2 == 0) { continue; } s = s + x; } s
let s=0; for x in seq.set(1, 2, 3) { s = s + x; } s
let s=0; for i, x in tuple(7, 8) { s = s + i * x; } s
let s=""; for k, v in event.nested { s = s + k; } s
let n = 0; for x in event.nope { n = n + 1; } n
let n = 0; for c in event.s { n = n + 1; } n
for x in range(0, 3) { let y = x * 2; y }
let i = 0; while i < 5 { i = i + 1; } i
let i = 0; while (i < 3) { i = i + 1; i }
let i = 0; while (i < 3) { i = i + 1; if (i == 2) { return i; } } 9
let i = 0; while (true) { i = i + 1; if (i > 4) { break; } } i
let i = 0; let s = 0; while (i < 6) { i = i + 1; if (i == 2) { continue; } s = s + i; } s
let i = 3; while (i > 0) { i = i - 1; } i == 0
while false { 1 }
while (nil) { 1 }
while (1) { 1 }
while true { }
let i = 0; while (i < 3) { let j = i; i = j + 1; } i
let i = 0; while (i < 2) { let j = 0; while (j < 2) { j = j + 1; continue; } i = i + 1; } i
break;
continue;
let s = 0; while (true) { s = s + 1; if (s == 7) { break; } } return s;
for x in range(0, 4) { if (x == 2) { break; } } 5
let r = 0; for x in range(0, 4) { if (x == 2) { break; } r = x; } r
let r = 0; for x in range(0, 4) { if (x < 2) { continue; } r = r + x; } r
for x in range(0, 4) { continue; } 6
for x in range(0, 4) { break; } 6
for x in range(0, 4) { break; x }
let i = 0; while (i < 4) { i = i + 1; continue; } i
return 5
return 5;
return;
return nil;
return true && false;
return event.triggerable;
return 1; 2
return "a" + "b";
lambda(x) -> x + 1 end
(lambda(x) -> x + 1 end)(3)
(lambda(x) -> let y = x; y * 2 end)(4)
(lambda(x) -> if (x > 1) { return "big"; } "small" end)(4)
(lambda(x) -> if (x > 1) { return "big"; } "small" end)(0)
(lambda(x, y) -> x + y end)(1, 2)
(lambda(x, y) -> x end)(1)
(lambda() -> 5 end)()
let f = lambda(x) -> x + 1 end; f(2)
let k = 10; let f = lambda(x) -> x + k end; f(2)
let k = 1; let f = lambda() -> k = k + 1; k end; f() + f()
let f = lambda(x) -> lambda(y) -> x + y end end; f(1)(2)
map(seq.list(1, 2, 3), lambda(x) -> x * 2 end)
map(event.tags, lambda(t) -> t + "!" end)
filter(history, lambda(h) -> h.n > 1 end)
reduce(history, lambda(a, h) -> a + h.n end, 0)
count(filter(history, lambda(h) -> h.event_name == "a" end)) > 0
lambda(x) -> x
lambda(x) x end
true
false
nil
true == true
false != true
nil == nil && true
seq.list(true, false, nil)
true + false
map(seq.list(true, false), !)
str(true) + str(false) + str(nil)
boolean(true) && !false
false == nil
nil + "x" == "nullx"
type(true) + type(nil)
1
-1
0
9007199254740991
0xFF
0x10 + 1
1.5
5.
.5
1.15
12.25
1e3
1E-2
1.5e3
1.0E10
100000000.0
0.001
1N
1M
"abc"
'abc'
""
''
'it\'s'
"say \"hi\""
"a\tb"
"a\nb"
"a\\b"
"a\qb"
"a'b"
'a"b'
"unterminated
"#{1}"
"#{}"
"a#{nil}"
"\#{1}"
"a#b"
"a#{event.s}b#{1+2}"
'a#{event.s}b'
"#{event.nope}"
"#{1.0}"
"#{"
"#{event.tags}"
"#{user.country == 'US' ? 'yes' : 'no'}"
"n=#{event.n + 1}, s=#{string.length(event.s)}"
## comment\n5
5 ## comment
5 ## comment\n+ 1
## only\ntrue ## end
1 ## a\n+ ## b\n2
"## no comment"
let a = 1; ## one\na
##\n##\n7
# 5
1+2;3
1;
1;2;
1 2
1,2
;
)
{
event.
1 +
* 2
true and false
a.b(1)
if (true) { y = 2; } y
if (true) { let z = 1; } z
string.length
string.length == 1
is_def(event)
is_def(nope)
is_def(event.foo)
is_def(string.length)
is_def(user)
is_def(visit)
is_def(history)
let q = 1; is_def(q)
is_def("event")
event.tags[0] = "z"; event.tags[0]
event
user.country
count(history) == 2 && history[0]["n"] == 1
`;
