// Functions that V8 compiles at run time, and how much of the time they take: hottest nearly all of it.
function hottest(n) {
  let x = 0;
  for (let i = 0; i < n; i++) x = (x * 31 + i) | 0;
  return x;
}
function caller(n) {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += hottest(100000);
  return sum;
}
let sum = 0;
for (let i = 0; i < 1000; i++) sum += caller(10);
if (Number.isNaN(sum)) process.exitCode = 1;
