"""Two-sided p of Fisher's exact test with whole numbers: python3 fisher.py >fisher.csv"""
from fractions import Fraction
from math import comb
from random import Random

def p(a, b, n, m):
    k = a + b
    ways = [comb(n, x) * comb(m, k - x) for x in range(max(0, k - m), min(k, n) + 1)]
    own = comb(n, a) * comb(m, b)
    return float(Fraction(sum(w for w in ways if w <= own), comb(n + m, k)))

cases = [(0, 1, 1, 1), (5, 0, 5, 5), (0, 10, 1000, 1000), (7, 2, 900, 1100), (999, 1000, 1000, 1000), (120, 90, 1000, 1000),
         (2100, 2000, 10000, 10000), (3000, 3300, 20000, 20000), (1, 0, 3, 20000), (15, 16, 31, 33), (0, 40, 4000, 9000)]
random = Random(1)
for size in (10, 100, 1000, 5000):
    for _ in range(10):
        n, m = random.randint(1, size), random.randint(1, size)
        cases.append((random.randint(0, n), random.randint(0, m), n, m))
        share = random.random()
        cases.append((sum(random.random() < share for _ in range(n)), sum(random.random() < share for _ in range(m)), n, m))
print("old,new,all old,all new,p")
for case in cases:
    print(*case, repr(p(*case)), sep=",")
