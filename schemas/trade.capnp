@0xa1b2c3d4e5f60001;

enum Side {
  buy @0;
  sell @1;
}

struct Trade {
  timestamp @0 :UInt64;  # Unix nanoseconds of the venue
  ticker @1 :Text;
  price @2 :Float64;     # dollars of the YES side
  size @3 :UInt32;       # contracts
  side @4 :Side;         # of the taker
  tradeId @5 :Text;
}

struct Ticker {
  timestamp @0 :UInt64;  # Unix nanoseconds of the venue
  ticker @1 :Text;
  bidPrice @2 :Float64;  # dollars of the YES side; 0.0 is a missing quote
  askPrice @3 :Float64;
  lastPrice @4 :Float64;
  volume @5 :UInt64;     # contracts
  openInterest @6 :UInt64;
}
