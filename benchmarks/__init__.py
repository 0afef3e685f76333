"""Speed against peers on the same work. `make bench`, or one of them: python -m benchmarks.coreset --quick"""
